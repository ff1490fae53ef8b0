"""Who may run a study: nobody is fenced but by a controller that was told to."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import pytest

from liverseg.errors import Fenced, StoreAway, StoreError, StudyError, StudyHeld
from liverseg.platform.process_identity import is_dead, this_process
from liverseg.race.controller import Controller
from liverseg.race.records import facts
from liverseg.race.records.facts import Heartbeat
from liverseg.race.records.job import JobState
from liverseg.race.records.lease import HEARTBEAT_TIMEOUT_SECONDS, WAIT_SECONDS, Lease, may_take
from liverseg.race.records.snapshot import read_failures
from liverseg.race.records.study import open_study
from liverseg.settings import from_mapping
from liverseg.simulation.simulated_executor import SimulatedExecutor
from liverseg.steps.training.orphan_check import OrphanCheck
from liverseg.storage import record
from liverseg.storage.memory import MemoryStore
from tests.race.fault_script import Crash
from tests.race.rehearsal import DATASET, NONCE, SETTINGS, Rehearsal

HELD = Heartbeat(3, "someone", NONCE, 0.0)


@pytest.mark.parametrize(
    ("heartbeat", "unchanged", "dead", "may"),
    [
        (None, 0.0, False, True),
        (HELD, 0.0, False, False),
        (HELD, HEARTBEAT_TIMEOUT_SECONDS - 0.1, False, False),
        (HELD, HEARTBEAT_TIMEOUT_SECONDS, False, True),
        (HELD, 0.0, True, True),
        (dataclasses.replace(HELD, released=True), 0.0, False, True),
        (dataclasses.replace(HELD, nonce="ffffffff"), 0.0, False, True),
    ],
)
def test_a_study_is_taken_only_where_nobody_holds_it(heartbeat, unchanged, dead, may) -> None:
    assert may_take(heartbeat, NONCE, unchanged, dead) == may


class Clock:
    """Time that passes only in `sleep`; `ticks` is called every second."""

    def __init__(self, ticks: Callable[[], None] = lambda: None, wall: float = 0.0) -> None:
        self.now, self.wall, self.ticks = 1000.0, wall, ticks

    def monotonic(self) -> float:
        return self.now

    def unix(self) -> float:
        return self.now + self.wall

    def sleep(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.now += 1.0
            self.ticks()


def lease(rehearsal: Rehearsal, clock: Clock, **options: object) -> Lease:
    times = {"clock": clock.unix, "monotonic": clock.monotonic}
    return Lease(rehearsal.store, rehearsal.study, **times, **options)


def heartbeat(rehearsal: Rehearsal) -> Heartbeat:
    beat = facts.read_heartbeat(rehearsal.store, rehearsal.study.id)
    assert beat is not None
    return beat


@pytest.fixture
def rehearsal() -> Rehearsal:
    return Rehearsal()


@pytest.mark.parametrize("wall", [-90_000.0, 0.0, 90_000.0])
def test_a_holder_that_lives_is_waited_for_ten_minutes_and_named(
    rehearsal: Rehearsal, wall: float
) -> None:
    clock = Clock(wall=wall)
    times = {"clock": lambda: clock.now, "monotonic": clock.monotonic}
    holder = Lease(rehearsal.store, rehearsal.study, **times)
    holder.acquire(clock.sleep)
    clock.ticks = holder.renew
    owners = []
    second = lease(rehearsal, clock)
    with pytest.raises(
        StudyHeld, match=f"is run by {holder.owner} .*still held it after 10 minutes.*--take-over"
    ):
        second.acquire(clock.sleep, waits=lambda beat: owners.append(beat.owner))
    assert WAIT_SECONDS <= clock.now - 1000 < WAIT_SECONDS + 5
    assert owners == [holder.owner]
    assert heartbeat(rehearsal).owner == holder.owner
    assert StudyHeld.exit_code == 6


@pytest.mark.parametrize("wall", [-90_000.0, 0.0, 90_000.0])
def test_a_holder_without_a_heartbeat_for_a_minute_of_the_takers_clock_has_lost_it(
    rehearsal: Rehearsal, wall: float
) -> None:
    holder = lease(rehearsal, Clock(wall=wall))
    holder.acquire(lambda _: None)
    clock = Clock()
    lease(rehearsal, clock).acquire(clock.sleep)
    assert HEARTBEAT_TIMEOUT_SECONDS <= clock.now - 1000 < HEARTBEAT_TIMEOUT_SECONDS + 5
    with pytest.raises(Fenced, match="taken over by another controller"):
        holder.renew()


def test_what_was_released_is_taken_at_once(rehearsal: Rehearsal) -> None:
    clock = Clock()
    first, second = lease(rehearsal, clock), lease(rehearsal, clock)
    first.acquire(clock.sleep)
    first.release()
    assert heartbeat(rehearsal).released
    clock.now += 20
    first.beat()  # a thread that is late
    second.acquire(clock.sleep)
    assert clock.now == 1020.0
    assert heartbeat(rehearsal).owner == second.owner
    assert not heartbeat(rehearsal).released


def test_to_take_over_waits_for_nobody(rehearsal: Rehearsal) -> None:
    clock = Clock()
    first, second = lease(rehearsal, clock), lease(rehearsal, clock)
    first.acquire(clock.sleep)
    second.acquire(clock.sleep, take_over=True)
    assert clock.now == 1000.0
    with pytest.raises(Fenced):
        first.renew()
    first.release()
    assert heartbeat(rehearsal).owner == second.owner
    assert not heartbeat(rehearsal).released


def test_of_two_that_take_it_at_once_the_one_who_wrote_first_waits_or_is_fenced() -> None:
    """Wherever in the first one's taking the second one takes it, one of the two goes on."""
    for write_of_first in ("before", "after", "later"):
        rehearsal = Rehearsal()
        clock = Clock()
        first, second = lease(rehearsal, clock), lease(rehearsal, clock)

        def rival(_number: int, key: str, second=second, rehearsal=rehearsal, clock=clock) -> None:
            rehearsal.store.before_write = rehearsal.store.after_write = None
            second.acquire(clock.sleep, take_over=True)

        if write_of_first == "before":
            rehearsal.store.before_write = rival
        elif write_of_first == "after":
            rehearsal.store.after_write = rival
        if write_of_first == "after":
            # The second one's heartbeat does not change any more: a minute later it is taken.
            # It was told to take it over, which it has done once.
            first.acquire(clock.sleep, take_over=True)
            assert clock.now >= 1000 + HEARTBEAT_TIMEOUT_SECONDS
        else:
            first.acquire(clock.sleep)
            if write_of_first == "later":
                second.acquire(clock.sleep, take_over=True)
        ended = []
        for each in (first, second):
            try:
                each.renew()
            except Fenced:
                ended.append(each)
        assert len(ended) == 1, write_of_first


def test_a_process_of_this_machine_that_is_gone_is_dead_and_one_that_lives_is_not() -> None:
    source = (
        "import sys; from liverseg.platform.process_identity import this_process\n"
        "print(this_process(), flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", source]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        identity = process.stdout.readline().strip()
        assert identity
        assert not is_dead(identity)
        assert not is_dead(this_process())
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(identity)  # not yet collected
        process.wait()
        assert is_dead(identity)


@pytest.mark.parametrize(
    ("part", "value", "dead"),
    [
        (0, "another-boot", False),
        (1, "pid:[1]", False),
        (2, str(2**22 + 1), True),
        (3, "1", True),
        (3, None, False),
    ],
    ids=["other boot", "other container", "no such pid", "pid used again", "itself"],
)
def test_a_pid_means_nothing_on_another_machine_or_in_another_container(part, value, dead) -> None:
    parts = this_process().split()
    if value is not None:
        parts[part] = value
    assert is_dead(" ".join(parts)) == dead


@pytest.mark.parametrize("unknown", ["", "nonsense", "a b c d", "a b c"])
def test_a_process_that_cannot_be_known_is_not_taken_for_dead(unknown: str) -> None:
    assert not is_dead(unknown)


def test_the_study_of_a_dead_process_of_this_machine_is_taken_at_once(
    rehearsal: Rehearsal,
) -> None:
    clock = Clock()
    lease(rehearsal, clock, process="p1").acquire(clock.sleep)
    second = lease(rehearsal, clock, is_dead=lambda process: process == "p1")
    second.acquire(clock.sleep)
    assert clock.now == 1000.0


def elsewhere(rehearsal: Rehearsal, sleep: Callable[[float], None]) -> Controller:
    """A controller on another machine, which knows none of the trainers that run."""
    nothing = SimulatedExecutor(rehearsal.store, rehearsal.study)
    return Controller(
        rehearsal.store,
        nothing,
        rehearsal.study,
        rehearsal.capacity,
        clock=rehearsal.executor.clock,
        monotonic=rehearsal.executor.clock,
        sleep=sleep,
        listener=lambda event: rehearsal.events.append(dict(event)),
    )


def test_a_second_controller_elsewhere_waits_and_records_no_running_trainer_as_failed() -> None:
    settings = from_mapping({"race": {"seeds": 16}}, SETTINGS)
    rehearsal = Rehearsal(settings=settings, gpus=16)
    first = rehearsal.controller()
    first.lease.acquire(time.sleep, take_over=True)
    first.reconcile("end")
    assert rehearsal.executor.most_at_once == 16

    def sleep(seconds: float) -> None:
        rehearsal.executor.sleep(seconds)
        if first.lease.held and first.reconcile("end")[0]:
            first.lease.release()

    elsewhere(rehearsal, sleep).run("end")
    assert rehearsal.events_of("failed") == []
    (held,) = rehearsal.events_of("held")
    assert held["owner"] == first.lease.owner
    assert facts.read_result(rehearsal.store, rehearsal.study.id) is not None
    # Each took it once, and neither from the other.
    assert heartbeat(rehearsal).generation == 2


def test_two_controllers_that_are_started_again_and_again_do_not_fence_each_other() -> None:
    long = from_mapping({"race": {"maximum_iterations": 4096, "seeds": 2}}, SETTINGS)
    rehearsal = Rehearsal(settings=long, score=lambda seed, _: 0.1 * seed)
    first = rehearsal.controller()
    first.lease.acquire(time.sleep, take_over=True)

    def sleep(seconds: float) -> None:
        rehearsal.executor.sleep(seconds)
        first.reconcile("end")

    for _ in range(2):  # as KFP tries a task again
        with pytest.raises(StudyHeld, match=first.lease.owner):
            elsewhere(rehearsal, sleep).run("end")
    assert heartbeat(rehearsal).generation == 1
    assert rehearsal.events_of("failed") == []


def interrupted(_seconds: float) -> None:
    raise KeyboardInterrupt


def test_who_is_interrupted_while_waiting_touches_nothing_of_the_holder() -> None:
    rehearsal = Rehearsal()
    first = rehearsal.controller()
    first.lease.acquire(time.sleep, take_over=True)
    first.reconcile("end")
    before = dict(rehearsal.store.objects)
    with pytest.raises(KeyboardInterrupt):
        rehearsal.controller(sleep=interrupted).run("end")
    assert rehearsal.store.objects == before
    assert all(state.running for state in rehearsal.executor.states().values())


def raising(error: BaseException) -> Callable[[float], None]:
    def sleep(_seconds: float) -> None:
        raise error

    return sleep


@pytest.mark.parametrize(
    "error", [StudyError("x"), StoreError("x"), KeyboardInterrupt(), SystemExit(1), ValueError()]
)
def test_a_controller_that_notices_its_end_releases_the_lease(error: BaseException) -> None:
    rehearsal = Rehearsal()
    with pytest.raises(type(error)):
        rehearsal.controller(sleep=raising(error)).run("end")
    assert heartbeat(rehearsal).released


def test_a_controller_that_is_killed_releases_nothing(rehearsal: Rehearsal) -> None:
    with pytest.raises(Crash):
        rehearsal.controller(sleep=raising(Crash())).run("end")
    assert not heartbeat(rehearsal).released


def test_a_controller_that_comes_to_its_end_or_is_stopped_releases_the_lease() -> None:
    rehearsal = Rehearsal()
    rehearsal.run(0)
    assert heartbeat(rehearsal).released
    facts.set_stopped(rehearsal.store, rehearsal.study.id, True, 0.0)
    with pytest.raises(StudyError, match="stopped"):
        rehearsal.run()
    assert (heartbeat(rehearsal).released, heartbeat(rehearsal).state) == (True, "stopped: by hand")


def test_that_the_store_is_away_at_the_end_hides_no_error(rehearsal: Rehearsal) -> None:
    def refuse(_number: int, _key: str) -> None:
        raise StoreError("away")

    def sleep(_seconds: float) -> None:
        rehearsal.store.before_write = refuse
        raise ValueError("the error")

    with pytest.raises(ValueError, match="the error"):
        rehearsal.controller(sleep=sleep).run("end")


@pytest.mark.parametrize("beats", [False, True])
def test_a_controller_that_lost_the_answer_to_its_taking_does_not_wait_for_itself(
    rehearsal: Rehearsal, beats: bool
) -> None:
    """As `Controller.run` does it: what raises StoreAway is called again."""
    store, read, clock = rehearsal.store, rehearsal.store.get, Clock()
    mine = lease(rehearsal, clock)
    clock.ticks = mine.beat if beats else clock.ticks

    def away_once(key: str) -> bytes:
        data = read(key)
        if key.endswith("heartbeat.json"):
            store.get = read
            raise StoreAway("simulated")
        return data

    store.get = away_once
    with pytest.raises(StoreAway):
        mine.acquire(clock.sleep)
    assert heartbeat(rehearsal).owner == mine.owner
    clock.sleep(30)
    mine.acquire(clock.sleep)
    assert clock.now == 1030.0
    assert mine.held


def test_what_a_thread_has_noticed_does_not_change_the_generation_of_a_running_reconcile(
    rehearsal: Rehearsal,
) -> None:
    clock = Clock()
    first, second = lease(rehearsal, clock), lease(rehearsal, clock)
    first.acquire(clock.sleep)
    second.acquire(clock.sleep, take_over=True)
    with pytest.raises(Fenced):
        first.beat()
    assert not first.held
    assert first.generation == 1
    with pytest.raises(Fenced, match="lease generation 2; this one has 1"):
        first.renew()


def test_a_heartbeat_that_somebody_deleted_is_written_again(rehearsal: Rehearsal) -> None:
    held = lease(rehearsal, Clock())
    held.acquire(lambda _: None)
    rehearsal.store.delete(facts.heartbeat_key(rehearsal.study.id))
    held.renew()
    assert heartbeat(rehearsal).owner == held.owner


def empty(store: MemoryStore) -> None:
    for key in list(store.objects):
        store.delete(key)


def test_a_controller_whose_study_was_deleted_ends_and_writes_nothing(
    rehearsal: Rehearsal,
) -> None:
    held = lease(rehearsal, Clock())
    held.acquire(lambda _: None)
    empty(rehearsal.store)
    with pytest.raises(StudyError, match=f"study {rehearsal.study.id} was deleted"):
        held.renew()
    held.beat()
    held.release()
    with pytest.raises(StudyError, match="was deleted"):
        lease(rehearsal, Clock()).acquire(lambda _: None)
    assert rehearsal.store.objects == {}


@pytest.mark.parametrize("late", [False, True], ids=["it looked", "it wrote once more"])
def test_a_store_that_was_emptied_and_filled_anew_has_another_race(late: bool) -> None:
    rehearsal = Rehearsal()
    old = lease(rehearsal, Clock())
    old.acquire(lambda _: None)
    key = facts.heartbeat_key(rehearsal.study.id)
    last = rehearsal.store.get(key)
    empty(rehearsal.store)
    opened = open_study(rehearsal.store, SETTINGS, DATASET, nonce=lambda: "ffffffff")
    assert opened.id == rehearsal.study.id
    clock = Clock()
    new = Lease(rehearsal.store, opened, clock=clock.unix, monotonic=clock.monotonic)
    if late:
        rehearsal.store.put(key, last)
    new.acquire(clock.sleep)
    assert clock.now == 1000.0
    if late:
        rehearsal.store.put(key, last)
    else:
        with pytest.raises(Fenced, match="opened anew"):
            old.renew()
    new.renew()
    assert record.read(rehearsal.store, key)["nonce"] == "ffffffff"


class ExecutorWithEarlierJobs(SimulatedExecutor):
    """Knows the jobs of the race that was in the store before, as a work folder does."""

    before: Mapping[str, JobState] = {}

    def states(self) -> Mapping[str, JobState]:
        return dict(self.before) | dict(super().states())

    def submit(self, job) -> bool:
        return job.name not in self.before and super().submit(job)


@pytest.mark.parametrize("running", [True, False])
def test_emptying_a_store_and_starting_again_is_a_new_race(running: bool) -> None:
    """It died with "all 4 seeds failed": the jobs of before were taken for its own."""
    rehearsal = Rehearsal()
    rehearsal.run(0)
    names = list(rehearsal.executor.states())
    store = MemoryStore()
    study = open_study(store, SETTINGS, DATASET, nonce=lambda: "ffffffff")
    executor = ExecutorWithEarlierJobs(store, study, startup_seconds=1.0)
    executor.before = {name: JobState(name, running, None if running else -9) for name in names}
    controller = Controller(
        store,
        executor,
        study,
        rehearsal.capacity,
        clock=executor.clock,
        monotonic=executor.clock,
        sleep=executor.wait,
    )
    controller.run("end")
    assert facts.read_result(store, study.id) is not None
    assert controller.started == 4 + 2 + 1
    assert read_failures(store, study.id) == []
    # Neither cancelled nor recorded.
    assert not [key for key in store.objects if NONCE in key]


@pytest.mark.parametrize("emptied", [True, False], ids=["deleted", "opened anew"])
def test_a_trainer_of_a_study_that_was_deleted_is_an_orphan(
    rehearsal: Rehearsal, emptied: bool
) -> None:
    held = lease(rehearsal, Clock())
    held.acquire(lambda _: None)
    check = OrphanCheck(rehearsal.store, rehearsal.study.id, NONCE, 0, 0, 0, 1800.0)
    assert not check.is_orphan(0.0)
    key = facts.heartbeat_key(rehearsal.study.id)
    if emptied:
        rehearsal.store.delete(key)
    else:
        beat = dataclasses.replace(heartbeat(rehearsal), nonce="ffffffff")
        record.write(rehearsal.store, key, beat.to_mapping())
    assert check.is_orphan(1.0)

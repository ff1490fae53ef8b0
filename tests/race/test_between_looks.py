"""What others do while a controller looks and acts: it looks at jobs, then at facts, then acts."""

import itertools
import time
from collections.abc import Callable, Mapping

from liverseg.race.controller import Controller
from liverseg.race.records import facts
from liverseg.race.records.job import Job, JobState
from liverseg.race.records.snapshot import read_failures
from liverseg.storage.memory import MemoryStore
from tests.race.fault_script import Killed
from tests.race.faulty_executor import FaultyExecutor
from tests.race.rehearsal import NONCE, Rehearsal, rising
from tests.race.stepped import View


def controller_of(rehearsal: Rehearsal, store: View, executor: FaultyExecutor) -> Controller:
    made = Controller(
        store,
        executor,
        rehearsal.study,
        rehearsal.capacity,
        clock=executor.clock,
        monotonic=executor.clock,
        sleep=executor.wait,
    )
    made.lease.acquire(time.sleep, take_over=True)
    return made


def attempt(rehearsal: Rehearsal, seed: int, number: int = 0) -> Job:
    return Job.of(rehearsal.study.id, NONCE, seed, 0, number, 2)


def failed(rehearsal: Rehearsal) -> list[tuple[int, int]]:
    """The (seed, attempt) of every failure."""
    failures = read_failures(rehearsal.store, rehearsal.study.id)
    return [(failure.seed, failure.attempt) for failure in failures]


class Interleaved(View):
    """A store of which every read is preceded by what happens elsewhere at that moment."""

    def __init__(self, store: MemoryStore, happens: Callable[[], None]) -> None:
        super().__init__(store)
        self._happens = happens

    def get(self, key: str) -> bytes:
        self._happens()
        return super().get(key)

    def keys(self, prefix: str) -> list[str]:
        self._happens()
        return super().keys(prefix)


class InterleavedExecutor(FaultyExecutor):
    """An executor of which every look at the jobs is preceded by what happens elsewhere."""

    happens: Callable[[], None] = staticmethod(lambda: None)

    def states(self) -> Mapping[str, JobState]:
        self.happens()
        return super().states()


def failures_where(begins: int, ends: int) -> tuple[list[tuple[int, int]], int]:
    """Let one reconcile pass, with seed 0's job begun elsewhere before its look number `begins`.

    It reports and ends before number `ends`. Returns the failures and the number of looks.
    """
    rehearsal = Rehearsal()
    executor = InterleavedExecutor(
        rehearsal.store, rehearsal.study, score=rising, startup_seconds=1.0
    )
    looks = itertools.count()
    looked = [0]

    def happens() -> None:
        looked[0] = number = next(looks)
        if number == begins:
            executor.submit(attempt(rehearsal, 0))
            executor.sleep(1.5)
        if number == ends:
            executor.sleep(100)

    controller = controller_of(rehearsal, Interleaved(rehearsal.store, happens), executor)
    looks = itertools.count()
    executor.happens = happens
    controller.reconcile("end")
    return failed(rehearsal), looked[0] + 1


def test_a_job_that_begins_reports_and_ends_while_a_controller_looks_is_no_failure() -> None:
    looks = failures_where(-1, -1)[1]
    # A job that nobody knew at the first look is asked for anew, and takes more of them.
    pairs = list(itertools.combinations(range(looks + 10), 2))
    wrong = [(pair, failures) for pair in pairs if (failures := failures_where(*pair)[0])]
    assert wrong == []


class SlowApi(FaultyExecutor):
    """While one job is submitted, another controller's is begun and is deleted by somebody."""

    def submit(self, job: Job) -> bool:
        new = super().submit(job)
        if job.seed == 0:
            other = Job.of(job.study, NONCE, 1, 0, 0, job.iterations)
            super().submit(other)
            self.sleep(2.0)
            self.cancel(other.name)
            self.delete(other.name)
        return new


def test_a_job_that_was_begun_and_deleted_is_not_begun_again_under_its_name() -> None:
    rehearsal = Rehearsal()
    executor = SlowApi(rehearsal.store, rehearsal.study, score=rising, startup_seconds=1.0)
    controller = controller_of(rehearsal, View(rehearsal.store), executor)
    controller.reconcile("end")
    assert set(executor.states()) == {attempt(rehearsal, 0).name}
    controller.run("end")
    # Its attempt is over, and the seed has its next one.
    assert failed(rehearsal) == [(1, 0)]
    assert attempt(rehearsal, 1, 1).name in executor.states()


def test_an_attempt_that_a_controller_of_an_earlier_lease_closed_without_a_word_failed() -> None:
    rehearsal = Rehearsal(gpus=1)
    executor = InterleavedExecutor(
        rehearsal.store,
        rehearsal.study,
        score=rising,
        startup_seconds=1.0,
        faults=[
            Killed(0, 0, 1, exit_code=1, attempts=(0, 1, 2)),
            Killed(0, 0, 1, exit_code=-9, attempts=(3,)),
        ],
    )
    earlier = controller_of(rehearsal, View(rehearsal.store), executor)
    while len(failed(rehearsal)) < 3:
        earlier.reconcile("end")
        executor.sleep(1.0)
    fourth, laters = attempt(rehearsal, 0, 3).name, []

    def taken_over() -> None:
        """The next lease gives seed 0 all attempts anew; the first of them is killed."""
        executor.happens = lambda: None
        laters.append(controller_of(rehearsal, View(rehearsal.store), executor))
        reconciles(laters[0], executor, until=lambda: fourth in executor.states())
        executor.sleep(10.0)

    # For it seed 0 has failed for good, so it records the end of that attempt and no failure.
    executor.happens = taken_over
    earlier.reconcile("end")
    assert not executor.states()[fourth].running
    executor.delete(fourth)
    ended = facts.result_key(rehearsal.study.id)
    reconciles(laters[0], executor, until=lambda: ended in rehearsal.store.objects)
    assert failed(rehearsal) == [(0, 0), (0, 1), (0, 2), (0, 3)]


def reconciles(controller: Controller, executor: FaultyExecutor, until: Callable[[], bool]) -> None:
    """Let a controller reconcile, a second apart, until something has happened."""
    for _ in range(100):
        if until():
            return
        controller.reconcile("end")
        executor.sleep(1.0)
    raise AssertionError("it did not happen in 100 reconciles")

"""A whole race on a cluster: the real controller and executor, an API server of the tests' own.

Trainers are simulated ones in its pods, and time is the server's.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from kubernetes import client

from liverseg.errors import SettingsError, Stopped
from liverseg.platform.kubernetes_api import KubernetesApi
from liverseg.platform.pod_settings import PodSettings
from liverseg.race.controller import Controller
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.executors import job_manifest
from liverseg.race.executors.kubernetes import KubernetesExecutor
from liverseg.race.records import facts
from liverseg.race.records.decisions import Failure
from liverseg.race.records.job import Attempt, Job, job_name
from liverseg.race.records.snapshot import SnapshotReader, read_failures
from liverseg.race.records.study import open_study
from liverseg.storage.memory import MemoryStore
from tests.race.faulty_executor import FaultyExecutor
from tests.race.kubernetes_server import NAMESPACE, NOON, KubernetesServer
from tests.race.rehearsal import DATASET, SETTINGS, Rehearsal, rising

Outcome = tuple[list[Any], str]
LOOK = [("list", "jobs"), ("list", "pods")]


class ClusterRace:
    """A store, a study, a cluster; and as many controllers as a test wants."""

    def __init__(self, seconds_per_iteration: float = 5.0, **pods: Any) -> None:
        self.store = MemoryStore()
        self.server = KubernetesServer(self._program)
        self.study = open_study(self.store, SETTINGS, DATASET, clock=self.server.clock)
        self.settings = PodSettings(image="trainer@sha256:1", poll_seconds=5.0, **pods)
        self.wrong: set[int] = set()
        """Seeds whose trainers end with 1, once each."""
        self.started: list[str] = []
        """Names of the Jobs of which a pod has begun, once for each pod."""
        self.events: list[dict[str, Any]] = []
        self._clients: list[client.ApiClient] = []
        self._elsewhere = FaultyExecutor(
            self.store,
            self.study,
            score=rising,
            seconds_per_iteration=seconds_per_iteration,
            startup_seconds=1.0,
        )

    def _program(self, args: list[str]) -> Generator[float, None, int]:
        given = dict(word.removeprefix("--").split("=", 1) for word in args[1:])
        index = int(given["rung"])
        job = Job.of(
            given["study"],
            self.study.nonce,
            int(given["seed"]),
            index,
            int(given["attempt"]),
            self.study.rungs[index].iterations,
        )
        self.started.append(job.name)
        if self.started.count(job.name) > 1:
            yield 1.0
            return 75  # as train.py, which finds the start of another pod
        if job.seed in self.wrong and job.attempt == 0:
            yield 1.0
            return 1
        trainer = self._elsewhere.trainer(job)
        trainer.clock = self.server.clock
        return (yield from trainer.run())

    def controller(self, sleep: Callable[[float], None] | None = None) -> Controller:
        configuration = client.Configuration(host=self.server.host)
        configuration.retries = False
        self._clients.append(client.ApiClient(configuration))
        api = KubernetesApi(self._clients[-1], NAMESPACE, monotonic=self.server.clock)
        return Controller(
            self.store,
            KubernetesExecutor(
                api, "s3://bucket/store", self.study, self.settings, monotonic=self.server.clock
            ),
            self.study,
            Capacity(4, False),
            clock=self.server.clock,
            monotonic=self.server.clock,
            sleep=sleep or self.server.sleep,
            poll_seconds=self.settings.poll_seconds,
            listener=lambda event: self.events.append({"at": self.server.now - NOON} | dict(event)),
        )

    def outcome(self) -> Outcome:
        return outcome(self.store, self.study.id)

    def failures(self) -> list[Failure]:
        return read_failures(self.store, self.study.id)

    def close(self) -> None:
        for made in self._clients:
            made.rest_client.pool_manager.clear()
            made.close()
        self.server.stop()


@pytest.fixture
def race_of() -> Iterator[Callable[..., ClusterRace]]:
    made: list[ClusterRace] = []

    def make(*args: Any, **pods: Any) -> ClusterRace:
        made.append(ClusterRace(*args, **pods))
        return made[-1]

    yield make
    for race in made:
        race.close()


def outcome(store: MemoryStore, study: str) -> Outcome:
    """Who was promoted at every rung, and the winner's weights."""
    result = facts.read_result(store, study)
    assert result is not None
    decisions = SnapshotReader(store, study).read().decisions
    assert decisions
    return [(d.promoted, d.pruned) for d in decisions], result.weights_sha256


def undisturbed() -> Outcome:
    rehearsal = Rehearsal()
    rehearsal.run()
    return outcome(rehearsal.store, rehearsal.study.id)


def test_a_race_on_a_cluster_ends_as_it_does_elsewhere(race_of) -> None:
    race = race_of()
    race.controller().run("end")
    assert race.outcome() == undisturbed()
    assert len(race.started) == len(set(race.started))


def test_a_reconcile_in_which_nothing_happens_is_two_requests(race_of) -> None:
    race = race_of(100.0)
    controller = race.controller()
    controller.lease.acquire(time.sleep, take_over=True)
    while controller.reconcile("end")[1]:
        pass
    race.server.sleep(30)
    controller.reconcile("end")
    race.server.requests.clear()
    controller.reconcile("end")
    assert race.server.requests == LOOK


def test_a_job_that_its_queue_evicts_is_an_attempt_that_ended_and_no_second_pod(race_of) -> None:
    race = race_of(60.0, queue="gpus")
    name = job_name(race.study.id, race.study.nonce, Attempt(0, 3, 0))
    evicted: list[float] = []

    def queue(seconds: float) -> None:
        """Let everybody in; evict one Job after a minute, and let it in again after another."""
        server = race.server
        if not evicted and server.now > NOON + 60:
            server.suspend(name)
            evicted.append(server.now)
        for job in list(server.jobs):
            if job != name or not evicted or server.now > evicted[0] + 60:
                server.suspend(job, False)
        server.sleep(seconds)

    race.controller(queue).run("end")
    assert evicted
    assert race.outcome() == undisturbed()
    (failure,) = race.failures()
    assert (failure.seed, failure.attempt, failure.exit_code) == (3, 0, -15)
    assert failure.reason == "its Job was suspended after it had begun"
    assert race.started.count(name) == 1
    (cancelled,) = [e for e in race.events if e["event"] == "cancelled"]
    assert cancelled["at"] < evicted[0] - NOON + 30
    assert job_name(race.study.id, race.study.nonce, Attempt(0, 3, 1)) in race.started


def test_a_new_controller_knows_an_evicted_job_by_its_start(race_of) -> None:
    race = race_of(60.0, queue="gpus")
    name = job_name(race.study.id, race.study.nonce, Attempt(0, 3, 0))

    class Killed(BaseException):
        pass

    def killed(seconds: float) -> None:
        for job in race.server.jobs:
            race.server.suspend(job, False)
        race.server.sleep(seconds)
        if race.server.now > NOON + 30:
            raise Killed

    with suppress(Killed):
        race.controller(killed).run("end")
    race.server.suspend(name)
    race.server.sleep(30)
    controller = race.controller()
    controller.lease.acquire(time.sleep, take_over=True)
    for _ in range(4):
        controller.reconcile("end")
    assert name not in race.server.jobs
    assert [(f.seed, f.attempt) for f in race.failures()] == [(3, 0)]


def test_a_job_that_is_let_in_while_the_controller_looks_is_not_taken_for_an_evicted_one(
    race_of,
) -> None:
    race = race_of(60.0, queue="gpus")
    controller = race.controller()
    controller.lease.acquire(time.sleep, take_over=True)
    controller.reconcile("end")
    states = controller._executor.states  # between the lists and the facts
    looked = []

    def let_in() -> Any:
        job_states = states()
        if not looked:
            looked.append(True)
            for job in race.server.jobs:
                race.server.suspend(job, False)
            race.server.sleep(10)
        return job_states

    controller._executor.states = let_in  # type: ignore[method-assign]
    assert controller.reconcile("end") == (False, False)
    assert len(race.started) == 4
    controller.reconcile("end")
    assert race.failures() == []
    assert len(race.server.jobs) == 4


def test_a_right_that_is_taken_away_ends_the_controller_at_once_and_no_trainer(race_of) -> None:
    race = race_of()

    def taken(seconds: float) -> None:
        race.server.denied.add(("list", "pods"))
        race.server.sleep(seconds)

    with pytest.raises(SettingsError, match="RoleBinding") as caught:
        race.controller(taken).run("end")
    assert caught.value.exit_code == 2
    assert race.server.asked("delete", "jobs") == 0
    assert not [e for e in race.events if e["event"] == "away"]
    race.server.denied.clear()
    race.controller().run("end")
    assert race.outcome() == undisturbed()


def test_why_pods_cannot_be_created_is_in_the_heartbeat_and_in_the_log_after_a_minute(
    race_of,
) -> None:
    race = race_of()
    quota = "exceeded quota: liverseg, requested: requests.cpu=4"
    race.server.forbidden = quota
    waiting: list[str] = []

    def look(seconds: float) -> None:
        beat = facts.read_heartbeat(race.store, race.study.id)
        assert beat is not None
        waiting.extend(beat.waiting.values())
        if race.server.now > NOON + 120:
            race.server.forbidden = ""
        race.server.sleep(seconds)

    race.controller(look).run("end")
    waits = [event for event in race.events if event["event"] == "waits"]
    assert [event["seed"] for event in waits] == [0, 1, 2, 3]
    assert all(quota in event["reason"] for event in waits)
    assert all(60 <= event["at"] <= 70 for event in waits)
    assert waiting[0] == "its pod has not been created"
    assert race.outcome() == undisturbed()


def test_a_later_reason_of_a_wait_is_logged_too_and_each_once_however_its_counts_vary(
    race_of,
) -> None:
    race = race_of()
    race.server.forbidden = "exceeded quota: liverseg, requested: requests.cpu=4"

    def look(seconds: float) -> None:
        minute, server = (race.server.now - NOON) // 60, race.server
        status = {"phase": "Pending", "conditions": [], "containerStatuses": []}
        if minute >= 3:
            nodes = f"{minute % 3:.0f}/{minute % 5 + 3:.0f} nodes are available: {minute:.0f} busy"
            status["conditions"] = [{"type": "PodScheduled", "status": "False", "message": nodes}]
            server.forbidden, server.stuck = "", status
        if minute >= 6:
            # The kubelet alternates between the two; every pull fails within seconds.
            reason = "ErrImagePull" if server.now % 60 < 10 else "ImagePullBackOff"
            state = {"waiting": {"reason": reason, "message": f"at {server.now}"}}
            status |= {"conditions": [], "containerStatuses": [{"state": state}]}
        for pod in server.pods.values():
            pod["status"] |= status
        if minute >= 10:
            raise KeyboardInterrupt
        server.sleep(seconds)

    with pytest.raises(KeyboardInterrupt):
        race.controller(look).run("end")
    waits = [e for e in race.events if e["event"] == "waits" and e["seed"] == 0]
    logged = [(int(e["at"] // 60), e["reason"].partition(":")[0]) for e in waits]
    assert [minute for minute, _ in logged] == [1, 4, 7]
    assert [what.lstrip("/0123456789") for _, what in logged] == [
        "FailedCreate",
        " nodes are available",
        "ImagePullBackOff",
    ]


def test_a_log_is_asked_for_only_when_a_failure_is_recorded(race_of) -> None:
    race = race_of(100.0)
    race.wrong = {0, 1, 2}
    for seed in race.wrong:
        name = job_name(race.study.id, race.study.nonce, Attempt(0, seed, 0))
        race.server.logs[name] = f"starts\nseed {seed} went wrong\n"
    controller = race.controller()
    controller.lease.acquire(time.sleep, take_over=True)
    while len(race.failures()) < 3:
        controller.reconcile("end")
        race.server.sleep(5)
    assert [f.reason.split("; ")[-1] for f in race.failures()] == [
        f"last line: seed {seed} went wrong" for seed in range(3)
    ]
    assert race.server.asked("get", "pods/log") == 3
    # A new controller knows the three Jobs by their records.
    later = race.controller()
    later.lease.acquire(time.sleep, take_over=True)
    later.reconcile("end")
    later.reconcile("end")
    assert race.server.asked("get", "pods/log") == 3


def test_a_study_that_is_stopped_ends_what_runs_of_it_and_nothing_of_another(race_of) -> None:
    race = race_of(100.0)
    theirs = race.study.id, "ffffffff", 0, 0, 0, 2
    other = job_manifest.manifest(Job.of(*theirs), "s3://other/store", race.settings, None)
    race.server.create(other)

    def stopped(seconds: float) -> None:
        assert len(race.server.jobs) == 5
        facts.set_stopped(race.store, race.study.id, True, race.server.now)
        race.server.sleep(seconds)

    with pytest.raises(Stopped):
        race.controller(stopped).run("end")
    assert set(race.server.jobs) == {other["metadata"]["name"]}


def test_ctrl_c_ends_a_controller_and_none_of_its_pods(race_of) -> None:
    race = race_of(100.0)

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race.controller(interrupted).run("end")
    assert len(race.server.jobs) == 4


def test_a_second_controller_waits_while_the_first_lives_and_takes_over_a_minute_after_it_died(
    race_of,
) -> None:
    race = race_of(60.0)
    died = NOON + 120
    first = race.controller()
    first.lease.acquire(race.server.sleep)
    owners: dict[float, str] = {}

    def look(seconds: float) -> None:
        beat = facts.read_heartbeat(race.store, race.study.id)
        assert beat is not None
        owners[race.server.now] = beat.owner
        if race.server.now < died:
            first.reconcile("end")
        race.server.sleep(seconds)

    second = race.controller(look)
    second.run("end")
    (held,) = [event for event in race.events if event["event"] == "held"]
    assert held["owner"] == first.lease.owner
    taken = min(now for now, owner in owners.items() if owner == second.lease.owner)
    # It last renewed up to ten seconds before it died.
    assert 50 <= taken - died <= 65
    assert {owner for now, owner in owners.items() if now < taken} == {first.lease.owner}
    assert (first.lease.generation, second.lease.generation) == (1, 2)
    # The pods of the first one were adopted: none was started a second time.
    assert first.started == 4
    assert first.started + second.started == len(race.server.jobs) == len(race.started)
    assert race.failures() == []
    assert race.outcome() == undisturbed()

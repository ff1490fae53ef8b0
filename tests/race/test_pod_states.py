"""What Jobs and pods say, as the API server has said it (fields of batch/v1 and core/v1)."""

from typing import Any

import pytest

from liverseg.platform.pod_settings import PodSettings
from liverseg.race.executors import pod_states, pod_waits
from liverseg.race.executors.job_manifest import manifest
from liverseg.race.records.job import Job, JobState
from tests.race.rehearsal import NONCE

JOB = Job.of("0123456789ab", NONCE, 7, 2, 0, 20_000)
NOON = "2026-11-23T12:00:00Z"
NOON_UNIX = 1795435200.0
LATER = "2026-11-23T12:00:30Z"


def state_of(
    *listed: dict[str, Any], job: dict[str, Any] | None = None, deleted: float = 0.0
) -> JobState:
    jobs = [] if job is None else [{"metadata": {"name": JOB.name}, "spec": {}, "status": job}]
    return pod_states.states(jobs, pod_states.by_job(listed), {"uid-1": deleted})[JOB.name]


def pod(phase: str, container: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    metadata = {
        "name": "pod-1",
        "uid": "uid-1",
        "creationTimestamp": NOON,
        "labels": {"batch.kubernetes.io/job-name": JOB.name},
    }
    status: dict[str, Any] = {"phase": phase, "startTime": NOON} | more.pop("status", {})
    if container is not None:
        status["containerStatuses"] = [{"state": container}]
    return {"metadata": metadata | more, "status": status, "spec": {"nodeName": "node1"}}


def terminated(code: int, **more: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "finishedAt": LATER} | more}


def over(kind: str, message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "True", "message": message}]}


def test_a_pod_that_waits_for_a_gpu_runs_and_says_what_it_waits_for() -> None:
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    unscheduled = {"type": "PodScheduled", "status": "False", "message": message}
    waits = pod("Pending", status={"conditions": [unscheduled]})
    assert state_of(waits, job={}).waits_for == message
    expected = JobState(
        JOB.name,
        True,
        message="its pod has not been created",
        waits_for="its pod has not been created",
    )
    assert state_of(job={}) == expected


def test_a_pod_that_is_being_started_says_so_and_one_that_runs_waits_for_nothing() -> None:
    creating = state_of(pod("Pending", {"waiting": {"reason": "ContainerCreating"}}), job={})
    assert creating.waits_for == "its pod has not started"
    assert state_of(pod("Pending"), job={}).waits_for == "its pod has not started"
    for phase in ("Pending", "Running"):
        state = state_of(pod(phase, {"running": {}}), job={})
        assert state == JobState(JOB.name, True, message="pod pod-1 on node1")


def test_a_job_that_is_about_to_fail_says_why_it_gets_no_pod() -> None:
    doomed = {"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded"}
    assert state_of(job={"conditions": [doomed]}).waits_for == "FailureTarget: DeadlineExceeded"


def test_a_job_whose_pod_has_ended_and_that_has_not_counted_it_waits_for_nothing() -> None:
    state = state_of(pod("Succeeded", terminated(0)), job={})
    assert (state.running, state.waits_for) == (True, "")


def test_a_job_that_its_queue_has_not_let_in_says_so() -> None:
    settings = PodSettings(image="trainer@sha256:1", queue="gpus")
    states = pod_states.states([manifest(JOB, "s3://bucket/store", settings, None)], {}, {})
    assert "queue has not admitted it" in states[JOB.name].waits_for
    assert states[JOB.name].suspended


def test_a_job_that_somebody_suspended_and_that_is_in_no_queue_says_so() -> None:
    job = manifest(JOB, "s3://bucket/store", PodSettings(image="trainer@sha256:1"), None)
    job["spec"]["suspend"] = True
    state = pod_states.states([job], {}, {})[JOB.name]
    assert (state.running, state.suspended) == (True, True)
    assert "in no queue" in state.waits_for
    saving = pod("Running", {"running": {}}, deletionTimestamp=LATER)
    assert not pod_states.states([job], {JOB.name: [saving]}, {})[JOB.name].suspended


def test_an_image_that_cannot_be_pulled_is_named() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    waits_for = state_of(pod("Pending", waiting), job={}).waits_for
    assert waits_for == "ImagePullBackOff: Back-off pulling image"


def test_a_sidecar_that_is_not_ready_is_reported_and_one_that_initialises_is_waited_for() -> None:
    waiting = {"waiting": {"reason": "PodInitializing"}}
    assert state_of(pod("Pending", waiting), job={}).waits_for == pod_waits.STARTING
    failing = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting"}}
    stuck = pod("Pending", waiting, status={"initContainerStatuses": [{"state": failing}]})
    assert state_of(stuck, job={}).waits_for == "CrashLoopBackOff: back-off 5m0s restarting"


def test_a_complete_job_has_ended_with_0_and_had_its_gpu_from_the_pods_start() -> None:
    state = state_of(pod("Succeeded", terminated(0)), job=over("Complete"))
    assert (state.running, state.exit_code) == (False, 0)
    assert (state.started, state.ended) == (NOON_UNIX, NOON_UNIX + 30)
    assert state_of(job=over("Complete")).exit_code == 0


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [(75, "Error", 75), (137, "Error", -9), (143, "Error", -15), (137, "OOMKilled", 137)],
)
def test_a_killed_container_is_distinguished_from_one_that_ran_out_of_memory(
    code, reason, expected
) -> None:
    failed = pod("Failed", terminated(code, reason=reason))
    state = state_of(failed, job=over("Failed", "Job has reached the specified backoff limit"))
    assert state.exit_code == expected
    assert "pod pod-1 on node1" in state.message


def test_an_evicted_pod_says_nothing_of_its_seed() -> None:
    disrupted = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    failed = pod("Failed", terminated(137), status={"conditions": [disrupted]})
    state = state_of(failed, job=over("Failed"))
    assert state.exit_code == -15
    assert "EvictionByEvictionAPI: Eviction API: evicting" in state.message
    saved = pod("Failed", terminated(75), status={"conditions": [disrupted]})
    assert state_of(saved, job=over("Failed")).exit_code == 75


def test_a_job_whose_pod_was_deleted_was_asked_to_end() -> None:
    state = state_of(job=over("Failed", "Job has reached the specified backoff limit"))
    assert (state.running, state.exit_code) == (False, -15)
    assert "its pod was deleted" in state.message


def test_the_pod_of_a_deleted_job_runs_until_it_has_saved() -> None:
    assert state_of(pod("Running", {"running": {}}, deletionTimestamp=LATER)).running
    assert state_of(pod("Failed", terminated(75))).exit_code == 75


def test_a_pod_that_outlives_its_deletion_is_on_a_node_that_was_cut_off() -> None:
    lost = pod("Running", {"running": {}}, deletionTimestamp=NOON, deletionGracePeriodSeconds=120)
    assert state_of(lost, job={}, deleted=180).running
    state = state_of(lost, job={}, deleted=181)
    assert (state.running, state.exit_code) == (False, -15)
    assert state.message == "its node node1 does not answer"


@pytest.mark.parametrize(
    "newer",
    [
        {"lastTimestamp": LATER},
        {"lastTimestamp": None, "eventTime": "2026-11-23T12:00:30.000001Z"},
        {"lastTimestamp": NOON, "series": {"count": 2, "lastObservedTime": LATER}},
    ],
)
def test_the_newest_event_counts_however_its_time_is_written(newer: dict[str, Any]) -> None:
    older = {"metadata": {}, "reason": "Scheduled", "message": "", "lastTimestamp": NOON}
    failed = {"metadata": {}, "reason": "FailedMount", "message": "no such volume", **newer}
    for events in ([older, failed], [failed, older]):
        assert pod_waits.latest(events, JOB.name) == "FailedMount: no such volume"
    assert pod_waits.latest([], JOB.name) == ""

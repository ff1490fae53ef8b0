"""What Jobs and pods say, as the API server has said it (fields of batch/v1 and core/v1)."""

import re
from typing import Any

import pytest

from liverseg.errors import SettingsError
from liverseg.race.executors import job_manifest
from liverseg.race.executors.job_manifest import PodSettings
from liverseg.race.records.job import Job, JobState
from tests.race.rehearsal import NONCE

JOB = Job.of("0123456789ab", NONCE, 7, 2, 0, 20_000)
STORE = "s3://bucket/store"
NOON = "2026-11-23T12:00:00Z"
NOON_UNIX = 1795435200.0
LATER = "2026-11-23T12:00:30Z"


def manifest(job: Job = JOB, **settings: Any) -> job_manifest.Manifest:
    return job_manifest.manifest(
        job, STORE, PodSettings(image="trainer@sha256:1", **settings), None
    )


def told(
    *listed: dict[str, Any], job: dict[str, Any] | None = None, now: float = NOON_UNIX
) -> JobState:
    jobs = [] if job is None else [{"metadata": {"name": JOB.name}, "spec": {}, "status": job}]
    return job_manifest.states(jobs, listed, now)[JOB.name]


def pod(phase: str, container: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    metadata = {
        "name": "pod-1",
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
    assert told(waits, job={}).waits_for == message
    assert told(job={}) == JobState(JOB.name, True, message="no pod yet")


def test_a_pod_whose_image_is_pulled_or_that_runs_waits_for_nothing() -> None:
    for container in ({"waiting": {"reason": "ContainerCreating"}}, {"running": {}}):
        state = told(pod("Pending", container), job={})
        assert state == JobState(JOB.name, True, message="pod pod-1 on node1")


def test_a_job_that_its_queue_has_not_let_in_says_so() -> None:
    found = job_manifest.states([manifest(queue="gpus")], [], NOON_UNIX)
    assert "queue has not let it in" in found[JOB.name].waits_for


def test_an_image_that_cannot_be_pulled_is_named() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    waits_for = told(pod("Pending", waiting), job={}).waits_for
    assert waits_for == "ImagePullBackOff: Back-off pulling image"


def test_a_complete_job_has_ended_with_0_and_had_its_gpu_from_the_pods_start() -> None:
    state = told(pod("Succeeded", terminated(0)), job=over("Complete"))
    assert (state.running, state.exit_code) == (False, 0)
    assert (state.started, state.ended) == (NOON_UNIX, NOON_UNIX + 30)
    assert told(job=over("Complete")).exit_code == 0


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [(75, "Error", 75), (137, "Error", -9), (143, "Error", -15), (137, "OOMKilled", 137)],
)
def test_a_killed_container_is_told_from_one_that_ran_out_of_memory(code, reason, expected) -> None:
    failed = pod("Failed", terminated(code, reason=reason))
    state = told(failed, job=over("Failed", "Job has reached the specified backoff limit"))
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
    state = told(failed, job=over("Failed"))
    assert state.exit_code == -15
    assert "EvictionByEvictionAPI: Eviction API: evicting" in state.message
    saved = pod("Failed", terminated(75), status={"conditions": [disrupted]})
    assert told(saved, job=over("Failed")).exit_code == 75


def test_a_job_whose_pod_was_deleted_was_asked_to_end() -> None:
    state = told(job=over("Failed", "Job has reached the specified backoff limit"))
    assert (state.running, state.exit_code) == (False, -15)
    assert "its pod was deleted" in state.message


def test_the_pod_of_a_deleted_job_runs_until_it_has_saved() -> None:
    assert told(pod("Running", {"running": {}}, deletionTimestamp=LATER)).running
    assert told(pod("Failed", terminated(75))).exit_code == 75


def test_a_pod_that_outlives_its_deletion_is_on_a_node_that_was_cut_off() -> None:
    lost = pod("Running", {"running": {}}, deletionTimestamp=NOON)
    assert told(lost, job={}, now=NOON_UNIX + 59).running
    state = told(lost, job={}, now=NOON_UNIX + 61)
    assert (state.running, state.exit_code) == (False, -15)
    assert state.message == "its node node1 does not answer"


def test_a_job_is_what_kubernetes_must_not_do_again() -> None:
    spec = manifest()["spec"]
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert "activeDeadlineSeconds" not in spec
    assert spec["template"]["spec"]["activeDeadlineSeconds"] == 4 * 20_000 + 3600
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert "suspend" not in spec
    args = spec["template"]["spec"]["containers"][0]["args"]
    assert args[0] == "train"
    assert {"--seed=7", "--rung=2", "--attempt=0", f"--store={STORE}"} <= set(args)


def test_with_a_queue_kueue_decides_when_a_job_starts() -> None:
    queued = manifest(queue="gpus")
    assert queued["spec"]["suspend"] is True
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_gpus_tolerations_and_places_go_into_the_pod() -> None:
    spec = manifest(
        gpus=2,
        node_selector={"gpu": "h200"},
        priority_class="research",
        shared_memory="8Gi",
        image_pull_secret="pull",  # noqa: S106 - its name
    )["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert spec["nodeSelector"] == {"gpu": "h200"}
    assert spec["priorityClassName"] == "research"
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    on_cpu = manifest(gpus=0)["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in on_cpu["containers"][0]["resources"]["limits"]
    assert "tolerations" not in on_cpu


def test_the_workflow_owns_the_job_and_does_not_control_it() -> None:
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run", "uid": "1"}
    made = job_manifest.manifest(JOB, STORE, PodSettings(image="i"), owner)
    (found,) = made["metadata"]["ownerReferences"]
    assert found == owner | {"controller": False, "blockOwnerDeletion": False}


def test_an_existing_job_is_the_same_whoever_owns_it_and_wherever_it_may_not_go() -> None:
    owner = {"apiVersion": "v1", "kind": "Workflow", "name": "run", "uid": "1"}
    settings = PodSettings(image="trainer@sha256:1")
    other = job_manifest.manifest(JOB, STORE, settings, owner, avoid=["node1"])
    assert job_manifest.difference(manifest(), other) is None


def test_a_name_is_valid_in_kubernetes_and_a_job_has_its_studys_nonce() -> None:
    longest = Job.of("0123456789ab", NONCE, 9999, 4, 1234, 80_000)
    assert re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", longest.name)
    assert len(longest.name) < 63
    made = job_manifest.manifest(longest, STORE, PodSettings(image="i"), None)
    for labels in (made["metadata"]["labels"], made["spec"]["template"]["metadata"]["labels"]):
        assert labels["liverseg.io/nonce"] == NONCE
    chosen = job_manifest.selector("0123456789ab", NONCE)
    assert chosen == f"liverseg.io/study=0123456789ab,liverseg.io/nonce={NONCE}"


@pytest.mark.parametrize(
    ("changed", "told_of"),
    [
        ({"image": "trainer@sha256:2"}, "image is trainer@sha256:2, not trainer@sha256:1"),
        ({"cpu": "8"}, "resources is"),
        ({"grace_seconds": 1}, "spec-sha256"),
    ],
)
def test_an_existing_job_that_differs_is_told_with_both_values(changed, told_of) -> None:
    settings = PodSettings(**({"image": "trainer@sha256:1"} | changed))
    other = job_manifest.manifest(JOB, STORE, settings, None)
    assert told_of in str(job_manifest.difference(manifest(), other))
    elsewhere = job_manifest.manifest(
        JOB, "s3://other/store", PodSettings(image="trainer@sha256:1"), None
    )
    assert "args is" in str(job_manifest.difference(manifest(), elsewhere))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", 'not JSON, such as {"memory": "32Gi"}'),
        ('{"cpu": 4}', "'pods.cpu' must be text in quotes, such as \"4\", not 4"),
        ('{"tolerations": {}}', "'pods.tolerations' must be a list"),
        ('{"memory": "1500MB"}', r"pods.memory \('1500MB'\) is no amount"),
        ('{"gpu": 1}', r"'pods.gpu' is unknown; known: pods.image, "),
        ('{"gpus": "1"}', "'pods.gpus' must be"),
        ('{"gpus": -1}', "at least 0"),
        ('{"grace_seconds": 0}', "above 0"),
        ('{"node_selector": {"a": 1}}', r"'pods.node_selector.a' must be"),
        ('{"tolerations": [1]}', "must be a table"),
        ("[]", "must be a table of settings"),
    ],
)
def test_wrong_pod_settings_are_named(text: str, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        PodSettings.from_json(text)


def test_settings_are_read_from_json() -> None:
    found = PodSettings.from_json('{"queue": "gpus", "node_selector": {"a": "b"}}')
    assert (found.queue, found.node_selector) == ("gpus", {"a": "b"})
    assert PodSettings.from_json("") == PodSettings()

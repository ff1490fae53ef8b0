"""What a Job that is suspended at a rung says, as the API server has said it."""

from typing import Any

import pytest

from liverseg.errors import SettingsError
from liverseg.race import carriers, pods
from liverseg.race.executor import Job, JobState, parse_job_name
from liverseg.race.pods import PodSettings

JOB = Job.of("0123456789ab", 7, 0, 0, 5_000)
NEXT = Job.of("0123456789ab", 7, 1, 0, 10_000)
NOON, LATER = "2026-11-23T12:00:00Z", "2026-11-23T12:30:00Z"
NOON_UNIX = 1795435200.0


def carrier(*patches: dict[str, Any], status: dict[str, Any] | None = None) -> dict[str, Any]:
    made = carriers.manifest(JOB, "s3://b/s", PodSettings(image="i"), None, 0, 80_000)
    made["metadata"] |= {"resourceVersion": "1", "uid": "u"}
    made["status"] = status or {}
    for patch in patches:  # as the API server merges it
        merged = made["metadata"]["annotations"] | patch["metadata"]["annotations"]
        made["metadata"]["annotations"] = {k: v for k, v in merged.items() if v is not None}
        made["spec"] |= patch["spec"]
    return made


def pod(phase: str, uid: str = "u") -> dict[str, Any]:
    labels = {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": carrier()["metadata"]["name"],
    }
    metadata = {"name": "pod", "creationTimestamp": NOON, "labels": labels}
    return {
        "metadata": metadata,
        "status": {"phase": phase, "startTime": NOON},
        "spec": {"nodeName": "n"},
    }


def suspended() -> dict[str, Any]:
    return {
        "conditions": [{"type": "Suspended", "status": "True", "lastTransitionTime": LATER}],
    }


def state(found: dict[str, Any], *listed: dict[str, Any]) -> JobState:
    ((name, told),) = carriers.states([found], listed, NOON_UNIX).items()
    assert name == told.name
    return told


def test_its_template_serves_every_rung() -> None:
    made = carrier()
    assert made["metadata"]["name"] == "lv-0123456789ab-s0007-c0"
    assert parse_job_name(made["metadata"]["name"]) is None
    args = made["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--rung=due" in args
    assert "--stay" in args
    assert not any(a.startswith(("--rung=0", "--attempt")) for a in args)
    assert made["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 4 * 80_000 + 3600
    for labelled in (made, made["spec"]["template"]):
        assert "liverseg.io/rung" not in labelled["metadata"]["labels"]


def test_a_carrier_runs_is_held_and_runs_for_the_next_rung() -> None:
    running = carrier()
    assert state(running, pod("Running")) == JobState(JOB.name, True, message="pod pod on n")
    patch = carriers.paused(running, [pod("Running")])
    assert patch["metadata"]["resourceVersion"] == "1"
    ending = carrier(patch)
    assert state(ending, pod("Running")).running
    # Until the Job controller has seen it.
    assert state(ending).running
    held = carrier(patch, status=suspended())
    assert state(held) == JobState(
        JOB.name, False, 0, NOON_UNIX, NOON_UNIX + 1800, "its Job is suspended", held=True
    )
    resumed = carrier(patch, carriers.resumed(held, NEXT))
    assert not resumed["spec"]["suspend"]
    assert state(resumed) == JobState(NEXT.name, True, message="no pod yet")


def test_somebody_elses_suspension_is_waited_for() -> None:
    theirs = carrier(status=suspended())
    theirs["spec"]["suspend"] = True
    assert not carriers.is_paused(theirs)
    assert state(theirs).running
    assert state(theirs).waits_for == "somebody has suspended its Job"


def test_a_carrier_that_failed_is_over_and_the_next_has_the_next_number() -> None:
    conditions = [{"type": "Failed", "status": "True", "message": "backoff"}]
    failed = carrier(status={"conditions": conditions})
    assert carriers.is_over(failed)
    assert not state(failed).running
    assert carriers.next_number([], JOB) == 0
    names = ["lv-0123456789ab-s0007-c9", "lv-0123456789ab-s0008-c20", "lv-0123456789ab-s0007-c10"]
    assert carriers.next_number(names, JOB) == 11


def test_the_pod_of_a_deleted_carrier_of_that_name_is_not_its() -> None:
    assert state(carrier(), pod("Failed", uid="before")).message == "no pod yet"


def test_suspension_is_refused_where_kueue_decides_it() -> None:
    with pytest.raises(SettingsError, match=r"pods.pause .*cannot be with pods.queue \('gpus'\)"):
        PodSettings.from_json('{"pause": "suspend", "queue": "gpus"}')
    assert pods.PodSettings.from_json('{"pause": "suspend"}').pause == "suspend"

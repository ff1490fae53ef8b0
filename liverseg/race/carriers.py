"""`pause: suspend`: one Kubernetes Job carries a seed from rung to rung. Pure.

The Job is suspended at a rung, which deletes its pod, and resumed for the next; its template cannot
be changed, so the trainer asks the store what is due. Which job of the race a carrier carries is in
its annotations. A carrier that has failed is followed by another, with the next number.

Sources: batch/v1 Job spec.suspend, status.conditions "Suspended"; of a suspended Job, a pod that
exits with 0 counts neither as failed nor as succeeded.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from liverseg.race import pods
from liverseg.race.executor import Job, JobState
from liverseg.race.pods import Manifest, PodSettings
from liverseg.settings import digest

CARRIES = "liverseg.io/carries"
"""Name of the race's job that it was created or resumed for."""
PAUSED = "liverseg.io/paused"
"""The same name, once we have suspended it there; somebody else's suspension has no such word."""
STARTED = "liverseg.io/started"
"""startTime of the pod that was suspended; it is deleted then."""
SEED = "liverseg.io/seed"


def manifest(
    job: Job,
    store: str,
    settings: PodSettings,
    owner: Mapping[str, Any] | None,
    number: int,
    longest: int,
) -> Manifest:
    """Return a carrier that starts with `job`.

    `number`: from 0, of this seed; `longest`: iterations of the last rung, for the deadline.
    """
    made = pods.manifest(replace(job, iterations=longest), store, settings, owner)
    spec, metadata = made["spec"], made["metadata"]
    for labelled in (metadata, spec["template"]["metadata"]):
        for label in ("liverseg.io/rung", "liverseg.io/attempt"):
            del labelled["labels"][label]
    container = spec["template"]["spec"]["containers"][0]
    container["args"] = [
        *(a for a in container["args"] if not a.startswith(("--rung=", "--attempt="))),
        "--rung=due",
        "--stay",
    ]
    # No name of the race's: those have a rung.
    metadata["name"] = f"lv-{job.study}-s{job.seed:04d}-c{number}"
    metadata["annotations"] = {pods.SPEC_SHA256: digest(spec), CARRIES: job.name}
    return made


def next_number(names: Iterable[str], job: Job) -> int:
    """Return the number of a seed's next carrier, above those of the carriers named."""
    ours = f"lv-{job.study}-s{job.seed:04d}-c"
    numbers = (int(name.removeprefix(ours)) for name in names if name.startswith(ours))
    return max(numbers, default=-1) + 1


def carried(carrier: Mapping[str, Any]) -> str:
    """Return the name of the race's job that a carrier carries."""
    return str(carrier["metadata"].get("annotations", {}).get(CARRIES, ""))


def is_over(carrier: Mapping[str, Any]) -> bool:
    """Return whether a carrier can never be resumed."""
    return bool({"Complete", "Failed"} & _conditions(carrier).keys())


def is_paused(carrier: Mapping[str, Any]) -> bool:
    """Return whether we have suspended it where it is."""
    marked = carrier["metadata"].get("annotations", {}).get(PAUSED)
    return bool(carrier["spec"].get("suspend")) and marked == carried(carrier)


def resumed(carrier: Mapping[str, Any], job: Job) -> Manifest:
    """Return the patch that lets a paused carrier go on with `job`."""
    annotations = {CARRIES: job.name, PAUSED: None, STARTED: None}
    return _patch(carrier, annotations, suspend=False)


def paused(carrier: Mapping[str, Any], listed: Iterable[Mapping[str, Any]]) -> Manifest:
    """Return the patch that suspends a carrier whose trainer has reported."""
    ours = _pods(carrier, listed)
    started = max((pod["status"].get("startTime") or "" for pod in ours), default="")
    annotations = {PAUSED: carried(carrier), STARTED: started or None}
    return _patch(carrier, annotations, suspend=True)


def states(
    carriers: Iterable[Mapping[str, Any]], listed: Sequence[Mapping[str, Any]], now: float
) -> dict[str, JobState]:
    """Return the state of every job of the race that a carrier carries now; `now`: unix time."""
    found = {}
    for carrier in carriers:
        name, ours = carried(carrier), _pods(carrier, listed)
        state = next(iter(pods.states([carrier], ours, now).values()))
        alive = any(pod["status"].get("phase") not in ("Succeeded", "Failed") for pod in ours)
        if state.running and not alive and carrier["spec"].get("suspend"):
            state = _suspended(carrier, state)
        found[name] = replace(state, name=name)
    return found


def _suspended(carrier: Mapping[str, Any], state: JobState) -> JobState:
    if not is_paused(carrier):
        return replace(state, waits_for="somebody has suspended its Job")
    condition = _conditions(carrier).get("Suspended")
    if condition is None:  # the Job controller has not seen it yet
        return state
    started = carrier["metadata"].get("annotations", {}).get(STARTED)
    ended = pods.unix_time(condition["lastTransitionTime"])
    return JobState(
        state.name, False, 0, pods.unix_time(started), ended, "its Job is suspended", held=True
    )


def _patch(
    carrier: Mapping[str, Any], annotations: Mapping[str, str | None], *, suspend: bool
) -> Manifest:
    # The version: whoever else has changed it since has to be seen first.
    version = carrier["metadata"]["resourceVersion"]
    metadata = {"resourceVersion": version, "annotations": dict(annotations)}
    return {"metadata": metadata, "spec": {"suspend": suspend}}


def is_of(pod: Mapping[str, Any], carrier: Mapping[str, Any]) -> bool:
    """Return whether a pod is this carrier's, and not that of a deleted one of its name."""
    uid = pod["metadata"].get("labels", {}).get("batch.kubernetes.io/controller-uid")
    return bool(uid == carrier["metadata"]["uid"])


def _pods(
    carrier: Mapping[str, Any], listed: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    return [pod for pod in listed if is_of(pod, carrier)]


def _conditions(carrier: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    conditions = carrier.get("status", {}).get("conditions", [])
    return {c["type"]: c for c in conditions if c["status"] == "True"}

"""What Jobs and their pods say of an attempt. Pure.

Sources: batch/v1 Job (status.conditions), core/v1 Pod (status.phase, containerStatuses,
status.conditions DisruptionTarget, metadata.deletionGracePeriodSeconds).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from liverseg.race.executors.pod_waits import NO_POD, Object, is_alive, is_suspended, waits_for
from liverseg.race.records.job import ASKED_TO_END, JobState

JOB_NAME = "batch.kubernetes.io/job-name"
# A pod that should have been gone for so long is on a node that nobody hears from.
CUT_OFF_SECONDS = 60.0


def by_job(pods: Iterable[Object]) -> dict[str, list[Object]]:
    """Return the pods of each Job, the newest last, by the Job's name."""
    pods_of: dict[str, list[Object]] = {}
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"])):
        name = pod["metadata"].get("labels", {}).get(JOB_NAME)
        if name is not None:
            pods_of.setdefault(name, []).append(pod)
    return pods_of


def states(
    jobs: Iterable[Object], pods: Mapping[str, Sequence[Object]], deleted: Mapping[str, float]
) -> dict[str, JobState]:
    """Return what a study's Jobs and their pods (`by_job`) say, by the Job's name.

    Pods outlive a deleted Job until they have saved. `deleted` tells, by uid, for how many seconds
    a pod has been seen to be deleted.
    """
    by_name = {job["metadata"]["name"]: job for job in jobs}
    names = sorted(by_name.keys() | pods.keys())
    return {name: _state(name, by_name.get(name), pods.get(name, ()), deleted) for name in names}


def _state(
    name: str, job: Object | None, pods: Sequence[Object], deleted: Mapping[str, float]
) -> JobState:
    last = pods[-1] if pods else None
    alive = [pod for pod in pods if is_alive(pod)]
    cut_off = [pod for pod in alive if _is_cut_off(pod["metadata"], deleted)]
    conditions = [] if job is None else job.get("status", {}).get("conditions", [])
    ended = {c["type"]: c for c in conditions if c["status"] == "True"}
    over = job is None or "Complete" in ended or "Failed" in ended
    if (alive or not over) and not cut_off:
        pod = alive[-1] if alive else last
        return JobState(
            name,
            running=True,
            message=NO_POD if pod is None else _where(pod),
            waits_for=waits_for(job, pod),
            suspended=not alive and is_suspended(job),
        )
    if "Complete" in ended:  # its pod may be gone already
        return _ended(name, last, "") if last is not None else JobState(name, False, 0)
    if cut_off:
        node = cut_off[-1]["spec"].get("nodeName")
        return JobState(name, False, ASKED_TO_END, message=f"its node {node} does not answer")
    detail = ended.get("Failed", {}).get("message", "")
    if last is None:
        message = f"its pod was deleted; {detail}".rstrip("; ")
        return JobState(name, False, ASKED_TO_END, message=message)
    return _ended(name, last, detail)


def _ended(name: str, pod: Object, detail: str) -> JobState:
    """Return how a pod ended."""
    status = pod["status"]
    containers = [c.get("state", {}) for c in status.get("containerStatuses", [])]
    terminated: Object = next((s["terminated"] for s in containers if "terminated" in s), {})
    code: int | None = terminated.get("exitCode")
    reason = status.get("reason") or terminated.get("reason", "")
    message = status.get("message") or terminated.get("message", "")
    # Out of memory it will be again: the trainer's own doing, not its node's.
    if code is not None and code > 128 and reason != "OOMKilled":
        code = 128 - code
    for condition in status.get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            detail = f"{condition.get('reason')}: {condition.get('message', '')}".rstrip(": ")
            if code is None or code < 0:
                code = ASKED_TO_END
    reason = f"{reason}: {message}" if reason and message else reason or message
    words = [word for word in (reason, detail, _where(pod)) if word and word != "Error"]
    finished = _unix_time(terminated.get("finishedAt"))
    # From here on the pod has its GPU, the pull of its image included.
    started = _unix_time(status.get("startTime"))
    return JobState(name, False, code, started, finished, "; ".join(words))


def _is_cut_off(metadata: Object, deleted: Mapping[str, float]) -> bool:
    grace = metadata.get("deletionGracePeriodSeconds") or 0
    return deleted.get(metadata["uid"], 0.0) > grace + CUT_OFF_SECONDS


def _where(pod: Object) -> str:
    return f"pod {pod['metadata']['name']} on {pod['spec'].get('nodeName', 'no node')}"


def _unix_time(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()

"""What Jobs and their pods say of an attempt. Pure.

Sources: batch/v1 Job (status.conditions), core/v1 Pod (status.phase, containerStatuses,
status.conditions DisruptionTarget).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from liverseg.race.executors.pod_waits import NO_POD, is_suspended, unix_time, waits_for
from liverseg.race.records.job import ASKED_TO_END, JobState

JOB_NAME = "batch.kubernetes.io/job-name"
# A pod that should have been gone for so long is on a node that nobody hears from.
CUT_OFF_SECONDS = 60.0


def states(
    jobs: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]], now: float
) -> dict[str, JobState]:
    """Return what Jobs and pods say, by the Job's name; `now`: unix time.

    Pods are looked at on their own, since they outlive a deleted Job until they have saved.
    """
    of: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        name = pod["metadata"].get("labels", {}).get(JOB_NAME)
        if name is not None:
            of.setdefault(name, []).append(pod)
    by_name = {job["metadata"]["name"]: job for job in jobs}
    names = sorted(by_name.keys() | of.keys())
    return {name: _state(name, by_name.get(name), of.get(name, []), now) for name in names}


def last_pods(pods: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the newest pod of each Job, by the Job's name."""
    found: dict[str, Mapping[str, Any]] = {}
    for pod in sorted(pods, key=_created):
        name = pod["metadata"].get("labels", {}).get(JOB_NAME)
        if name is not None:
            found[name] = pod
    return found


def _state(
    name: str, job: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]], now: float
) -> JobState:
    last = max(pods, key=_created, default=None)
    alive = [pod for pod in pods if pod["status"].get("phase") not in ("Succeeded", "Failed")]
    cut_off = [pod for pod in alive if _should_be_gone_for(pod, now) > CUT_OFF_SECONDS]
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


def _ended(name: str, pod: Mapping[str, Any], detail: str) -> JobState:
    """Return how a pod ended."""
    status = pod["status"]
    where = _where(pod)
    terminated = _terminated(status) or {}
    code = int(terminated["exitCode"]) if terminated else None
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
    words = [word for word in (reason, detail, where) if word and word != "Error"]
    finished = unix_time(terminated.get("finishedAt"))
    # From here on the pod has its GPU, the pull of its image included.
    started = unix_time(status.get("startTime"))
    return JobState(name, False, code, started, finished, "; ".join(words))


def _created(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"]["creationTimestamp"])


def _where(pod: Mapping[str, Any]) -> str:
    return f"pod {pod['metadata']['name']} on {pod['spec'].get('nodeName', 'no node')}"


def _terminated(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for container in status.get("containerStatuses", []):
        terminated: Mapping[str, Any] | None = container.get("state", {}).get("terminated")
        if terminated is not None:
            return terminated
    return None


def _should_be_gone_for(pod: Mapping[str, Any], now: float) -> float:
    """Return for how many seconds a pod has outlived its deletion and its grace period."""
    until = unix_time(pod["metadata"].get("deletionTimestamp"))
    return 0.0 if until is None else now - until

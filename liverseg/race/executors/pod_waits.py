"""Why a Job's trainer does not run yet, in the platform's own words. Pure, but for what it asks.

Sources: batch/v1 Job (spec.suspend, status.conditions), core/v1 Pod (status.conditions
PodScheduled, containerStatuses[].state.waiting), core/v1 Event.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from liverseg.platform.pod_settings import QUEUE

Object = Mapping[str, Any]

NO_POD = "its pod has not been created"
STARTING = "its pod has not started"
# A pod is made, scheduled and started within this time where nothing is wrong.
_ASK_AFTER_SECONDS = 20.0
# What was asked once is asked again after this time, a few Jobs at each look.
_ASK_AGAIN_SECONDS = 60.0
_ASKED_AT_ONCE = 5
_NOTHING_WRONG = (None, "ContainerCreating", "PodInitializing")


def is_alive(pod: Object) -> bool:
    """Return whether a pod has not ended yet, as far as its node has told."""
    return pod["status"].get("phase") not in ("Succeeded", "Failed")


def is_suspended(job: Object | None) -> bool:
    """Return whether a Job may have no pods: Kueue, or a person, has suspended it."""
    return job is not None and bool(job["spec"].get("suspend"))


def waits_for(job: Object | None, pod: Object | None) -> str:
    """Return why a Job that has not ended does not run, or "" if its pod's container does."""
    if job is not None and is_suspended(job) and (pod is None or not is_alive(pod)):
        if QUEUE in job["metadata"].get("labels", {}):
            return "its Job is suspended; its queue has not admitted it"
        return "its Job is suspended (spec.suspend) and in no queue"
    if pod is not None:
        return _pod_waits_for(pod["status"])
    conditions = [] if job is None else job.get("status", {}).get("conditions", [])
    true = (c for c in conditions if c["status"] == "True")
    return next((_joined(c, "type", "reason", "message") for c in true), NO_POD)


def _pod_waits_for(status: Object) -> str:
    containers = [c.get("state", {}) for c in status.get("containerStatuses", [])]
    initial = [c.get("state", {}) for c in status.get("initContainerStatuses", [])]
    for state in [*initial, *containers]:
        waiting = state.get("waiting", {})
        if waiting.get("reason") not in _NOTHING_WRONG:
            return _joined(waiting, "reason", "message")
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason"))
    begun = any("running" in state or "terminated" in state for state in containers)
    return STARTING if status.get("phase") == "Pending" and not begun else ""


def latest(events: Iterable[Object], job: str) -> str:
    """Return what the newest event says, or "" where there is none.

    Without the names of the Job's pods: what keeps many Jobs waiting is then reported once.
    """
    newest = max(events, key=_last_seen, default={})
    text = _joined(newest, "reason", "message")
    return re.sub(rf' "?{re.escape(job)}[-0-9a-z]*"?', "", text)


def _last_seen(event: Object) -> str:
    """Return an event's time to the second, as the API writes it (RFC 3339, UTC)."""
    times = (
        (event.get("series") or {}).get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    return next((time[:19] for time in times if time), "")


def _joined(values: Object, *names: str) -> str:
    return ": ".join(str(values[name]) for name in names if values.get(name))


@dataclass
class Wait:
    """A Job that waits without a reason of its own."""

    own: str
    """What the Job and its pod say, which is no reason."""
    since: float
    asked: float = -math.inf
    event: str = ""
    """What the events said last."""


def unexplained(
    before: Mapping[str, Wait], waiting: Mapping[str, str], now: float, event: Callable[[str], str]
) -> dict[str, Wait]:
    """Return the Jobs that wait without a reason of their own, and what their events said.

    `before` is what the last look returned, `now` is in seconds, and `waiting` has what each Job
    waits for in its own words, "" if it does not. `event` asks for a Job's newest event ("" leaves
    what was said before): a request each, so for a few at a time, those never asked for first.
    """
    kept = {name: wait for name, wait in before.items() if waiting.get(name) == wait.own}
    new = {name: Wait(own, now) for name, own in waiting.items() if own in (NO_POD, STARTING)}
    waits = new | kept
    due = [
        (wait.asked, wait.since, name)
        for name, wait in waits.items()
        if now - wait.since >= _ASK_AFTER_SECONDS and now - wait.asked >= _ASK_AGAIN_SECONDS
    ]
    for *_, name in sorted(due)[:_ASKED_AT_ONCE]:
        wait = waits[name]
        wait.asked, wait.event = now, event(name) or wait.event
    return waits

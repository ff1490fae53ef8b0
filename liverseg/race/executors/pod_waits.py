"""Why a Job's trainer does not run yet, in the platform's own words. Pure, but for its memory.

Sources: batch/v1 Job (spec.suspend, status.conditions), core/v1 Pod (status.conditions
PodScheduled, containerStatuses[].state.waiting), core/v1 Event.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from liverseg.platform.pod_settings import QUEUE

NO_POD = "its pod has not been created"
STARTING = "its pod has not started"
# A pod is made, scheduled and started within this time where nothing is wrong.
_ASK_AFTER_SECONDS = 20.0
# What was asked once is asked again after this time, a few Jobs at each look.
_ASK_AGAIN_SECONDS = 60.0
_ASKED_AT_ONCE = 5
_NOTHING_WRONG = ("ContainerCreating", "PodInitializing")


def is_suspended(job: Mapping[str, Any] | None) -> bool:
    """Return whether a Job may have no pods: Kueue, or a person, has suspended it."""
    return job is not None and bool(job["spec"].get("suspend"))


def waits_for(job: Mapping[str, Any] | None, pod: Mapping[str, Any] | None) -> str:
    """Return why a Job that has not ended does not run, or "" if its pod's container does."""
    if is_suspended(job) and (pod is None or pod["status"].get("phase") in ("Succeeded", "Failed")):
        assert job is not None
        if QUEUE in job["metadata"].get("labels", {}):
            return "its Job is suspended; its queue has not admitted it"
        return "its Job is suspended (spec.suspend) and in no queue"
    if pod is None:
        return (job and _condition(job)) or NO_POD
    return _pod_waits_for(pod["status"])


def _condition(job: Mapping[str, Any]) -> str:
    for condition in job.get("status", {}).get("conditions", []):
        if condition["status"] == "True":
            return _joined(condition, "type", "reason", "message")
    return ""


def _pod_waits_for(status: Mapping[str, Any]) -> str:
    containers = [c.get("state", {}) for c in status.get("containerStatuses", [])]
    initial = [c.get("state", {}) for c in status.get("initContainerStatuses", [])]
    for state in [*initial, *containers]:
        waiting = state.get("waiting", {})
        if waiting.get("reason", _NOTHING_WRONG[0]) not in _NOTHING_WRONG:
            return _joined(waiting, "reason", "message")
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason"))
    begun = any("running" in state or "terminated" in state for state in containers)
    return STARTING if status.get("phase") == "Pending" and not begun else ""


def latest(events: Iterable[Mapping[str, Any]], job: str) -> str:
    """Return what the newest event says, or "" where there is none.

    Without the names of the Job's pods: what keeps many Jobs waiting is then reported once.
    """
    newest = max(events, key=_last_seen, default=None)
    text = "" if newest is None else _joined(newest, "reason", "message")
    return re.sub(rf' "?{re.escape(job)}[-0-9a-z]*"?', "", text)


def _last_seen(event: Mapping[str, Any]) -> float:
    series = event.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    return next((seconds for time in times if (seconds := unix_time(time)) is not None), 0.0)


def unix_time(text: str | None) -> float | None:
    """Return an RFC 3339 time of the API as unix time."""
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _joined(values: Mapping[str, Any], *names: str) -> str:
    return ": ".join(str(values[name]) for name in names if values.get(name))


@dataclass
class _Wait:
    own: str
    """What the Job and its pod say, which is no reason."""
    since: float
    asked: float = -math.inf
    event: str = ""
    """What the events said."""


class Unexplained:
    """Records which Jobs wait without a reason of their own, and what their events said."""

    def __init__(self) -> None:
        self._waits: dict[str, _Wait] = {}

    def due(self, waiting: Mapping[str, str], now: float) -> list[str]:
        """Return the Jobs whose events are to be read now; `waiting`: by Job, what it waits for.

        Those that were never asked for come first; a few at a time, since each is a request.
        """
        self._waits = {
            name: wait
            if (wait := self._waits.get(name)) is not None and wait.own == own
            else _Wait(own, now)
            for name, own in waiting.items()
            if own in (NO_POD, STARTING)
        }
        due = [
            name
            for name, wait in self._waits.items()
            if now - wait.since >= _ASK_AFTER_SECONDS and now - wait.asked >= _ASK_AGAIN_SECONDS
        ]
        due.sort(key=lambda name: (self._waits[name].asked, self._waits[name].since))
        return due[:_ASKED_AT_ONCE]

    def record(self, name: str, reason: str, now: float) -> None:
        """Record what a Job's events say; "" leaves what they said before."""
        wait = self._waits[name]
        wait.asked, wait.event = now, reason or wait.event

    @property
    def reasons(self) -> dict[str, str]:
        """What the events of waiting Jobs said last."""
        return {name: wait.event for name, wait in self._waits.items() if wait.event}

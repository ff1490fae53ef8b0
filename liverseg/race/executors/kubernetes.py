"""Trainers as Kubernetes Jobs, one for each attempt of a seed at a rung."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from liverseg.errors import StudyError
from liverseg.platform.kubernetes_api import Conflict, KubernetesApi
from liverseg.platform.pod_settings import PodSettings
from liverseg.race.executors import job_manifest, pod_states, pod_waits
from liverseg.race.records.job import ASKED_TO_END, Job, JobState, job_name
from liverseg.race.records.study import Study

_LOG_LINES = 5


class KubernetesExecutor:
    """An Executor of one study.

    Args:
        api: The namespace where the Jobs are (`kubernetes_api.connect`).
        store: URL that trainers are given.
        study: Only its Jobs, which carry its nonce, are looked at.
        settings: How pods look.
        owner: Owner reference of the Jobs, or None: deleting the owner deletes them.
        clock: Unix time.

    What the API server rejects is a SettingsError; that it is unavailable, a PlatformError.
    """

    def __init__(
        self,
        api: KubernetesApi,
        store: str,
        study: Study,
        settings: PodSettings,
        *,
        owner: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._store = store
        self._study = study
        self._settings = settings
        self._owner = owner
        self._clock = clock
        self._selector = job_manifest.selector(study.id, study.nonce)
        self._known: dict[str, JobState] = {}
        self._uids: dict[str, str] = {}
        self._nodes: dict[str, str] = {}
        self._unexplained = pod_waits.Unexplained()

    def submit(self, job: Job) -> bool:
        """Create the Job; one that exists is adopted if it is the same, else StudyError."""
        if job.name in self._known:
            return False
        earlier = [
            self._nodes[name]
            for attempt in range(job.attempt)
            if (name := job_name(job.study, job.nonce, job.seed, job.rung_name, attempt))
            in self._nodes
        ]
        wanted = job_manifest.manifest(job, self._store, self._settings, self._owner, earlier)
        try:
            made = self._api.create_job(wanted)
        except Conflict:
            self._adopt(wanted)
            return False
        self._uids[job.name] = made["metadata"]["uid"]
        # Deleted before it is ever listed, it was there all the same.
        self._known[job.name] = JobState(job.name, running=True)
        return True

    def states(self) -> Mapping[str, JobState]:
        """Return the study's Jobs, and those that were seen once and have been deleted since.

        Asks for one list of Jobs and one of pods; besides, once, for the log of a trainer that has
        failed, and for the events of a few Jobs that have waited for long without a reason.
        """
        # Jobs first: a pod that is gone a moment later is one that has ended.
        jobs = self._api.jobs(self._selector)
        pods = self._api.pods(self._selector)
        self._uids = {job["metadata"]["name"]: job["metadata"]["uid"] for job in jobs}
        last = pod_states.last_pods(pods)
        self._nodes |= {
            n: p["spec"]["nodeName"] for n, p in last.items() if "nodeName" in p["spec"]
        }
        states = pod_states.states(jobs, pods, self._clock())
        ended = {name: state for name, state in self._known.items() if not state.running}
        for name, state in states.items():
            if name in last and name not in ended and not state.running and state.exit_code:
                states[name] = self._with_last_line(state, last[name])
        gone = {n: _deleted(self._known[n]) for n in self._known.keys() - states.keys()}
        # What has ended once has ended, whatever a node that comes back says of it.
        states |= gone | ended
        states |= self._explained(states, last)
        self._known = states
        return dict(states)

    def cancel(self, name: str) -> None:
        """Delete the Job; its pod gets SIGTERM and the grace period of its template."""
        if name in self._uids:
            self._api.delete_job(name, self._uids[name])

    def remove(self, name: str) -> None:
        """Delete a Job that has ended; its pod and log go with it."""
        self.cancel(name)

    def interrupt(self, study: str, nonce: str) -> None:
        """Delete every Job of the study that has not ended: trainers save, and are resumed."""
        if (study, nonce) != (self._study.id, self._study.nonce):
            return
        jobs = self._api.jobs(self._selector)
        states = pod_states.states(jobs, [], self._clock())
        for job in jobs:
            name = job["metadata"]["name"]
            if states[name].running:
                self._api.delete_job(name, job["metadata"]["uid"])

    def leave(self, study: str, nonce: str) -> None:
        """Nothing: the next controller adopts the Jobs, and without one they end themselves."""

    def _adopt(self, wanted: job_manifest.Manifest) -> None:
        name, namespace = wanted["metadata"]["name"], self._api.namespace
        existing = self._api.job(name)
        differs = None if existing is None else job_manifest.difference(wanted, existing)
        if differs is not None:
            raise StudyError(
                f"Job {name} exists in namespace {namespace} and is not the one that is "
                f"wanted: {differs}; delete it (`kubectl -n {namespace} delete job {name}`)"
                ", or start again with the settings that it was made with"
            )

    def _with_last_line(self, state: JobState, pod: Mapping[str, Any]) -> JobState:
        """Add what the trainer said last, if its pod is still there."""
        text = self._api.last_lines(pod["metadata"]["name"], _LOG_LINES)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return replace(state, message=f"{lines[-1]} ({state.message})") if lines else state

    def _explained(
        self, states: Mapping[str, JobState], pods: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, JobState]:
        """Return the states of Jobs of which only their events say what they wait for."""
        waiting = {name: state.waits_for for name, state in states.items() if state.waits_for}
        now = self._clock()
        for name in self._unexplained.due(waiting, now):
            pod = pods.get(name)
            kind, of = ("Job", name) if pod is None else ("Pod", pod["metadata"]["name"])
            reason = pod_waits.latest(self._api.events(kind, of), name)
            self._unexplained.record(name, reason, now)
        reasons = self._unexplained.reasons
        return {name: replace(states[name], waits_for=reason) for name, reason in reasons.items()}


def _deleted(before: JobState) -> JobState:
    if not before.running:
        return before
    return JobState(before.name, False, ASKED_TO_END, message="its Job was deleted")

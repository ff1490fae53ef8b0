"""Trainers as Kubernetes Jobs, one for each attempt of a seed at a rung."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from liverseg.errors import StudyError
from liverseg.platform.kubernetes_api import Conflict, KubernetesApi, Object
from liverseg.platform.pod_settings import PodSettings
from liverseg.race.executors import job_manifest, pod_states, pod_waits
from liverseg.race.records.job import ASKED_TO_END, Job, JobState, job_name
from liverseg.race.records.study import Study

_LOG_LINES = 5


@dataclass
class KubernetesExecutor:
    """An Executor of one study; only its Jobs, which carry its nonce, are looked at.

    What the API server rejects is a SettingsError; that it is unavailable, a PlatformError.
    """

    api: KubernetesApi
    store: str
    """URL that trainers are given."""
    study: Study
    settings: PodSettings
    owner: Object | None = None
    """Owner reference of the Jobs: deleting the owner deletes them."""
    monotonic: Callable[[], float] = time.monotonic
    """Clock in seconds; it is compared with no other machine's."""
    _known: dict[str, JobState] = field(default_factory=dict, init=False)
    _uids: dict[str, str] = field(default_factory=dict, init=False)
    _pods: dict[str, Object] = field(default_factory=dict, init=False)
    _nodes: dict[str, str] = field(default_factory=dict, init=False)
    _deleted: dict[str, float] = field(default_factory=dict, init=False)
    _waits: dict[str, pod_waits.Wait] = field(default_factory=dict, init=False)
    local = False

    def submit(self, job: Job) -> bool:
        """Create the Job; one that exists is adopted if it is the same, else StudyError."""
        if job.name in self._known:
            return False
        before = [job.at._replace(attempt=attempt) for attempt in range(job.attempt)]
        earlier = [job_name(job.study, job.nonce, at) for at in before]
        avoid = [self._nodes[name] for name in earlier if name in self._nodes]
        wanted = job_manifest.manifest(job, self.store, self.settings, self.owner, avoid)
        try:
            self._uids[job.name] = self.api.create_job(wanted)["metadata"]["uid"]
        except Conflict:
            self._require_same(wanted)
            return False
        # Deleted before it is ever listed, it was there all the same.
        self._known[job.name] = JobState(job.name, running=True)
        return True

    def states(self) -> Mapping[str, JobState]:
        """Return the study's Jobs, and those that were seen once and have been deleted since.

        Asks for Jobs, pods, and the events of a few that have waited for long without a reason.
        """
        # Jobs first: a pod that is gone a moment later is one that has ended.
        selector = job_manifest.selector(self.study.id, self.study.nonce)
        jobs, pods = self.api.jobs(selector), self.api.pods(selector)
        now, pods_of = self.monotonic(), pod_states.by_job(pods)
        self._uids = {job["metadata"]["name"]: job["metadata"]["uid"] for job in jobs}
        self._pods = {name: job_pods[-1] for name, job_pods in pods_of.items()}
        nodes = {name: pod["spec"].get("nodeName") for name, pod in self._pods.items()}
        self._nodes |= {name: node for name, node in nodes.items() if node}
        deleted = [p["metadata"]["uid"] for p in pods if "deletionTimestamp" in p["metadata"]]
        self._deleted = {uid: self._deleted.get(uid, now) for uid in deleted}
        seconds = {uid: now - since for uid, since in self._deleted.items()}
        states = pod_states.states(jobs, pods_of, seconds)
        for name in self._known.keys() - states.keys():
            states[name] = JobState(name, False, ASKED_TO_END, message="its Job was deleted")
        # What has ended once has ended, whatever a node that comes back says of it.
        states |= {name: state for name, state in self._known.items() if not state.running}
        waiting = {name: state.waits_for for name, state in states.items()}
        self._waits = pod_waits.unexplained(self._waits, waiting, now, self._event)
        for name, wait in self._waits.items():
            states[name] = replace(states[name], waits_for=wait.event or wait.own)
        self._known = states
        return dict(states)

    def last_line(self, name: str) -> str:
        """Return the last line of the Job's pod if that has ended; asks for its log."""
        pod = self._pods.get(name)
        if pod is None or pod_waits.is_alive(pod):
            return ""
        lines = self.api.last_lines(pod["metadata"]["name"], _LOG_LINES).splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def cancel(self, name: str) -> None:
        """Delete the Job; its pod gets SIGTERM and the grace period of its template."""
        if name in self._uids:
            self.api.delete_job(name, self._uids[name])

    def remove(self, name: str) -> None:
        """Delete a Job that has ended; its pod and log go with it."""
        self.cancel(name)

    def _require_same(self, wanted: job_manifest.Manifest) -> None:
        name, namespace = wanted["metadata"]["name"], self.api.namespace
        existing = self.api.job(name)
        differs = None if existing is None else job_manifest.difference(wanted, existing)
        if differs is not None:
            raise StudyError(
                f"Job {name} exists in namespace {namespace} and is not the one that is "
                f"wanted: {differs}; delete it (`kubectl -n {namespace} delete job {name}`)"
                ", or start again with the settings that it was made with"
            )

    def _event(self, name: str) -> str:
        """Return what the newest event of a Job's pod says, or of the Job where it has no pod."""
        pod = self._pods.get(name)
        kind, of = ("Job", name) if pod is None else ("Pod", pod["metadata"]["name"])
        return pod_waits.latest(self.api.events(kind, of), name)

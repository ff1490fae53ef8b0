"""Trainers as Kubernetes Jobs, one for each attempt of a seed at a rung."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from liverseg.errors import PlatformError, SettingsError, StudyError
from liverseg.race.executors import job_manifest
from liverseg.race.executors.job_manifest import PodSettings
from liverseg.race.records.job import Job, JobState
from liverseg.race.records.job_name import job_name
from liverseg.race.records.study import Study

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_PAGE = 500
# To connect, and between two packets.
_TIMEOUT = (5.0, 30.0)


class KubernetesExecutor:
    """An Executor of one study.

    Args:
        api: A client of the cluster (`connect`).
        namespace: Where the Jobs are.
        store: URL that trainers are given.
        study: Only its Jobs, which carry its nonce, are looked at.
        settings: How pods look.
        owner: Owner reference of the Jobs, or None: deleting the owner deletes them.
        clock: Unix time.

    What the API server refuses for good is a SettingsError; that it is away, a PlatformError.
    """

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        store: str,
        study: Study,
        settings: PodSettings,
        *,
        owner: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._jobs = client.BatchV1Api(api)
        self._pods = client.CoreV1Api(api)
        self._namespace = namespace
        self._store = store
        self._study = study
        self._settings = settings
        self._owner = owner
        self._clock = clock
        self._selector = job_manifest.selector(study.id, study.nonce)
        self._known: dict[str, JobState] = {}
        self._nodes: dict[str, str] = {}

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
            self._ask(self._jobs.create_namespaced_job, self._namespace, wanted)
        except Conflict:
            self._adopt(wanted)
            return False
        # Deleted before it is ever listed, it was there all the same.
        self._known[job.name] = JobState(job.name, running=True)
        return True

    def states(self) -> Mapping[str, JobState]:
        """Return the study's Jobs, and those that were seen once and have been deleted since."""
        # Jobs first: a pod that is gone a moment later is one that has ended.
        jobs = list(self._list(self._jobs.list_namespaced_job))
        listed = list(self._list(self._pods.list_namespaced_pod))
        self._nodes |= job_manifest.nodes(listed)
        found = job_manifest.states(jobs, listed, self._clock())
        ended = {name: state for name, state in self._known.items() if not state.running}
        for name, state in found.items():
            if name not in ended and not state.running and state.exit_code:
                found[name] = self._with_last_line(state)
        gone = {n: _deleted(self._known[n]) for n in self._known.keys() - found.keys()}
        # What has ended once has ended, whatever a node that comes back says of it.
        found |= gone | ended
        self._known = found
        return dict(found)

    def cancel(self, name: str) -> None:
        """Delete the Job; its pod gets SIGTERM and the grace period of its template."""
        job = self._read(name)
        if job is not None:
            self._delete(name, job["metadata"]["uid"])

    def remove(self, name: str) -> None:
        """Delete a Job that has ended; its pod and log go with it."""
        self.cancel(name)

    def interrupt(self, study: str, nonce: str) -> None:
        """Delete every Job of the study that has not ended: trainers save, and are resumed."""
        if (study, nonce) != (self._study.id, self._study.nonce):
            return
        for job in list(self._list(self._jobs.list_namespaced_job)):
            name = job["metadata"]["name"]
            if job_manifest.states([job], [], self._clock())[name].running:
                self._delete(name, job["metadata"]["uid"])

    def leave(self, study: str, nonce: str) -> None:
        """Nothing: the next controller adopts the Jobs, and without one they end themselves."""

    def _adopt(self, wanted: job_manifest.Manifest) -> None:
        name = wanted["metadata"]["name"]
        found = self._read(name)
        differs = None if found is None else job_manifest.difference(wanted, found)
        if differs is not None:
            raise StudyError(
                f"Job {name} exists in namespace {self._namespace} and is not the one that is "
                f"wanted: {differs}; delete it (`kubectl -n {self._namespace} delete job {name}`)"
                ", or start again with the settings that it was made with"
            )

    def _read(self, name: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = self._ask(
                self._jobs.read_namespaced_job, name, self._namespace
            )
        except Missing:
            return None
        return found

    def _delete(self, name: str, uid: str) -> None:
        # The uid: not another one of that name that was made in between.
        options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        with suppress(Missing, Conflict):
            self._ask(self._jobs.delete_namespaced_job, name, self._namespace, body=options)

    def _list(self, call: Callable[..., Any]) -> Iterator[Mapping[str, Any]]:
        """Yield all objects of the study, in pages; from the start if a page has expired."""
        found: dict[str, Mapping[str, Any]] = {}
        following: str | None = None
        while True:
            try:
                page = self._ask(
                    call,
                    self._namespace,
                    label_selector=self._selector,
                    limit=_PAGE,
                    **({"_continue": following} if following else {}),
                )
            except _Expired:
                found, following = {}, None
                continue
            found |= {item["metadata"]["name"]: item for item in page["items"]}
            following = page["metadata"].get("continue")
            if not following:
                yield from found.values()
                return

    def _with_last_line(self, state: JobState) -> JobState:
        """Add what the trainer said last, if its pod is still there."""
        try:
            listed = self._ask(
                self._pods.list_namespaced_pod,
                self._namespace,
                label_selector=f"{job_manifest.JOB_NAME}={state.name}",
            )
            names = [pod["metadata"]["name"] for pod in listed["items"]]
            text = self._text(names[-1]) if names else ""
        except (PlatformError, SettingsError, Missing):
            return state
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return replace(state, message=f"{lines[-1]} ({state.message})") if lines else state

    def _text(self, pod: str) -> str:
        response = _called(self._pods.read_namespaced_pod_log, pod, self._namespace, tail_lines=5)
        text: str = response.data.decode(errors="replace")
        return text

    def _ask(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return json.loads(_called(call, *args, **options).data)


def connect(settings: PodSettings) -> tuple[client.ApiClient, str]:
    """Return a client and the namespace: of this pod, else of the kubeconfig's context.

    Raises SettingsError where there is neither a cluster around nor a kubeconfig.
    """
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config()
            here = _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        else:
            config.load_kube_config()
            here = config.list_kube_config_contexts()[1]["context"].get("namespace", "default")
    except (ConfigException, OSError) as error:
        raise SettingsError(
            f"no cluster: {error}; set KUBECONFIG, or run here with --executor process"
        ) from error
    configuration = client.Configuration.get_default_copy()
    # We wait and say so ourselves.
    configuration.retries = False
    return client.ApiClient(configuration), settings.namespace or here


def workflow_of(api: client.ApiClient, namespace: str, pod: str) -> dict[str, Any] | None:
    """Return an owner reference to the Argo Workflow that a KFP task's pod belongs to, if any."""
    call = client.CoreV1Api(api).list_namespaced_pod
    found = json.loads(_called(call, namespace, field_selector=f"metadata.name={pod}").data)
    owners = [owner for p in found["items"] for owner in p["metadata"].get("ownerReferences", [])]
    for owner in owners:
        if owner["kind"] == "Workflow":
            return {name: owner[name] for name in ("apiVersion", "kind", "name", "uid")}
    return None


class Missing(Exception):
    """404."""


class Conflict(Exception):
    """409."""


class _Expired(Exception):
    """410: the list has to be started anew."""


_ANSWERS = {404: Missing, 409: Conflict, 410: _Expired}


def _called(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return the raw answer; plain JSON keeps what this client's models do not know."""
    try:
        return call(*args, **options, _preload_content=False, _request_timeout=_TIMEOUT)
    except ApiException as error:
        told = _told(error)
        if error.status in _ANSWERS:
            raise _ANSWERS[error.status](told) from error
        if error.status in (400, 422):
            raise SettingsError(f"the cluster refuses the Job: {told}") from error
        raise PlatformError(f"the Kubernetes API refuses ({error.status}): {told}") from error
    except HTTPError as error:
        raise PlatformError(f"the Kubernetes API is away: {error}") from error


def _told(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def _deleted(before: JobState) -> JobState:
    if not before.running:
        return before
    return JobState(before.name, False, -15, message="its Job was deleted")

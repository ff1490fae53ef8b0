"""The part of the Kubernetes API that liverseg uses, and what its refusals mean."""

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import getproxies_environment

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3 import make_headers
from urllib3.exceptions import HTTPError

from liverseg.errors import PlatformError, SettingsError
from liverseg.platform.proxies import proxy_for

Object = Mapping[str, Any]

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_PAGE = 500
# To connect, and between two packets.
_TIMEOUT = (5.0, 30.0)
# An API server that has just started knows nobody's rights yet (kubernetes/kubernetes#121635).
_SETTLING_SECONDS = 60.0
# How the API server reports missing rights; quotas and admission answer with 403, too.
_WITHOUT_RIGHT = re.compile(r"cannot \w+ resource")


class Conflict(Exception):
    """409: the name is taken, or the object is another one by now."""


class KubernetesApi:
    """Jobs, pods, logs and events of one namespace, as plain JSON.

    Raises PlatformError while the API server is away, and SettingsError, at once, for what it
    rejects: a missing permission (401, 403) is named by verb, resource and namespace.

    Args:
        api: A client of the cluster.
        namespace: The namespace.
        monotonic: Clock in seconds.
    """

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.namespace = namespace
        self._batch = client.BatchV1Api(api)
        self._core = client.CoreV1Api(api)
        self._monotonic = monotonic
        self._away: float | None = None

    def create_job(self, manifest: Object) -> Object:
        """Return the Job that was made; Conflict if its name is taken."""
        call = self._batch.create_namespaced_job
        made: Object = self._json("create", "batch/v1 jobs", call, body=manifest)
        return made

    def job(self, name: str) -> Object | None:
        """Return a Job, or None if there is none of that name."""
        call = self._batch.read_namespaced_job
        try:
            job: Object = self._json("get", "batch/v1 jobs", call, name=name)
        except _Missing:
            return None
        return job

    def delete_job(self, name: str, uid: str) -> None:
        """Delete a Job, unless it is gone or another one of that name was made in between."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        with suppress(_Missing, Conflict):
            self._json(
                "delete", "batch/v1 jobs", self._batch.delete_namespaced_job, name=name, body=body
            )

    def jobs(self, selector: str) -> list[Object]:
        """Return all Jobs with these labels."""
        return self._list("batch/v1 jobs", self._batch.list_namespaced_job, label_selector=selector)

    def pods(self, selector: str) -> list[Object]:
        """Return all pods with these labels."""
        return self._list("pods", self._core.list_namespaced_pod, label_selector=selector)

    def events(self, kind: str, name: str) -> list[Object]:
        """Return the events of one object, such as the Pod or Job of that name."""
        fields = f"involvedObject.kind={kind},involvedObject.name={name}"
        return self._list("events", self._core.list_namespaced_event, field_selector=fields)

    def last_lines(self, pod: str, lines: int) -> str:
        """Return the end of a pod's log; "" where there is none (any more)."""
        call = self._core.read_namespaced_pod_log
        try:
            answer = self._called("get", "pods/log", call, name=pod, tail_lines=lines)
        except (_Missing, _Invalid, PlatformError):  # _Invalid: its container never started
            return ""
        text: str = answer.data.decode(errors="replace")
        return text

    def workflow_of(self, pod: str) -> Object | None:
        """Return an owner reference to the Argo Workflow that a KFP task's pod belongs to."""
        items = self._list(
            "pods", self._core.list_namespaced_pod, field_selector=f"metadata.name={pod}"
        )
        for owner in (o for p in items for o in p["metadata"].get("ownerReferences", [])):
            if owner["kind"] == "Workflow":
                return {name: owner[name] for name in ("apiVersion", "kind", "name", "uid")}
        return None

    def _list(self, resource: str, call: Callable[..., Any], **selector: str) -> list[Object]:
        """Return all objects, read in pages; from the start if a page has expired."""
        items: dict[str, Object] = {}
        following: dict[str, str] = {}
        while True:
            try:
                page = self._json("list", resource, call, limit=_PAGE, **selector, **following)
            except _Expired:
                items, following = {}, {}
                continue
            items |= {item["metadata"]["name"]: item for item in page["items"]}
            if not page["metadata"].get("continue"):
                return list(items.values())
            following = {"_continue": page["metadata"]["continue"]}

    def _json(self, verb: str, resource: str, call: Callable[..., Any], **options: Any) -> Any:
        return json.loads(self._called(verb, resource, call, **options).data)

    def _called(self, verb: str, resource: str, call: Callable[..., Any], **options: Any) -> Any:
        """Return the raw answer; plain JSON keeps what this client's models do not know."""
        options |= {"namespace": self.namespace, "_request_timeout": _TIMEOUT}
        try:
            return call(**options, _preload_content=False)
        except ApiException as error:
            asked = f"{verb} {resource} in namespace {self.namespace}"
            raise self._refusal(int(error.status or 0), _message(error), asked) from error
        except HTTPError as error:
            self._away = self._monotonic()
            raise PlatformError(f"the API server does not answer: {error}") from error

    def _refusal(self, status: int, message: str, asked: str) -> Exception:
        """Return what an answer other than success means; `asked`: what it was the answer to."""
        if status in _ANSWERS:
            return _ANSWERS[status](message)
        if status in (400, 422) or (status == 403 and not _WITHOUT_RIGHT.search(message)):
            return _Invalid(f"the API server rejected the request to {asked} ({status}): {message}")
        now = self._monotonic()
        if status not in (401, 403):
            self._away = now
        elif self._away is None or now - self._away >= _SETTLING_SECONDS:
            return SettingsError(
                f"permission denied to {asked} ({status}): {message}; {_HINTS[status]}; "
                "running trainers continue"
            )
        return PlatformError(f"the API server does not answer to {asked} ({status}): {message}")


class _Missing(Exception):
    """404."""


class _Expired(Exception):
    """410: the list has to be started anew."""


class _Invalid(SettingsError):
    """What is asked for cannot be done, whoever asks."""


_ANSWERS = {404: _Missing, 409: Conflict, 410: _Expired}


_HINTS = {
    401: "renew the credentials of KUBECONFIG, or let the controller's pod mount the token of its "
    "service account (automountServiceAccountToken)",
    403: "check that the RoleBinding of Role liverseg-controller has that account as a subject "
    "(RoleBinding liverseg-controller, for the tasks of a KFP run liverseg-steps)",
}


def _through_proxy(configuration: client.Configuration) -> None:
    """Ask an API server outside through the proxy of the environment, which this client ignores.

    Inside a cluster its own API is asked directly: pods get the proxy for what lies outside.
    """
    proxy = proxy_for(configuration.host, getproxies_environment())
    if proxy is not None:
        configuration.proxy = proxy.url
        configuration.proxy_headers = make_headers(proxy_basic_auth=proxy.credentials or None)


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def connect(namespace: str = "") -> KubernetesApi:
    """Return the API of a namespace; by default this pod's, else that of the kubeconfig's context.

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
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        _through_proxy(configuration)
    # We wait and say so ourselves.
    configuration.retries = False
    return KubernetesApi(client.ApiClient(configuration), namespace or here)

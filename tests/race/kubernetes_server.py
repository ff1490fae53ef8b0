"""A small complete Kubernetes API server: Jobs, pods, logs and events in memory, over real HTTP.

Its answers, their errors among them, are worded like those of Kubernetes 1.34. Behind it are a
virtual clock, a Job controller, a scheduler with any number of nodes and a kubelet, which act
while a test lets time pass (`sleep`); a pod runs `program`.
"""

import itertools
import json
import re
import threading
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.http_server import RestartableServer

Object = dict[str, Any]
# A container's arguments to the seconds of each of its steps; what it returns is its exit code.
Program = Callable[[list[str]], Generator[float, None, int]]

NAMESPACE = "research"
NOON = 1_795_435_200.0
USER = f"system:serviceaccount:{NAMESPACE}:liverseg-controller"
START_SECONDS = 1.0
# A trainer that is asked to end needs this long to save, and ends with 75.
SAVE_SECONDS = 2.0
JOB_NAME = "batch.kubernetes.io/job-name"
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "AlreadyExists",
    410: "Expired", 422: "Invalid", 429: "TooManyRequests", 500: "InternalError",
    503: "ServiceUnavailable",
}  # fmt: skip


class Refusal(Exception):
    """An answer that is a Status of failure."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def short(_args: list[str]) -> Generator[float, None, int]:
    """Run for five seconds and succeed."""
    yield 5.0
    return 0


@dataclass
class _Container:
    steps: Generator[float, None, int]
    due: float


@dataclass
class KubernetesServer(RestartableServer):
    """The server and what it holds.

    Args:
        program: What every pod runs.
        page: Objects of a page at most, however many are asked for.
    """

    program: Program = short
    page: int = 500
    now: float = NOON
    jobs: dict[str, Object] = field(default_factory=dict)
    pods: dict[str, Object] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Verb and resource of every request, such as ("list", "pods")."""
    denied: set[tuple[str, str]] = field(default_factory=set)
    """Verbs and resources that the Role does not grant."""
    unknown: bool = False
    """The token is nobody's."""
    refusals: list[Refusal] = field(default_factory=list)
    """Given, one a request, before anything else is looked at."""
    expired: int = 0
    """How many continuations have expired when they are asked for."""
    forbidden: str = ""
    """Why no pod can be created, as admission words it."""
    stuck: Object | None = None
    """Status of pods that do not start, laid over theirs."""

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._containers: dict[str, _Container] = {}
        self._begun: set[str] = set()
        self._snapshots: dict[str, tuple[list[Object], int]] = {}
        self._numbers = itertools.count()
        self.listen(_handler(self))

    def clock(self) -> float:
        """Return the virtual unix time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass for the Job controller, the scheduler and the kubelet."""
        end = self.now + seconds
        with self._lock:
            while True:
                self._control()
                due = min(self._due(end), key=lambda entry: entry[:2], default=None)
                if due is None:
                    break
                self.now = max(self.now, due[0])
                self._kubelet(due[1])
            self.now = end
            self._control()

    def suspend(self, name: str, suspended: bool = True) -> None:
        """Write spec.suspend, as Kueue does to let a Job in or to evict it."""
        with self._lock:
            self.jobs[name]["spec"]["suspend"] = suspended

    def lose_node(self, job: str) -> None:
        """Cut off the nodes of a Job's pods: nothing more is heard of them."""
        with self._lock:
            for pod in self._pods_of(job):
                self._containers.pop(pod["metadata"]["name"], None)

    def return_node(self, job: str, code: int) -> None:
        """Let the nodes of a Job's pods come back: the trainer has ended with a code meanwhile."""
        with self._lock:
            for pod in self._pods_of(job):
                self._end(pod, code)

    def delete_pod(self, job: str) -> None:
        """Delete the pods of a Job, as a drain does."""
        with self._lock:
            for pod in self._pods_of(job):
                self._terminate(pod)

    def event(self, kind: str, name: str, reason: str, message: str) -> None:
        """Record an event of an object, as the platform's controllers do."""
        with self._lock:
            for event in self.events:
                if (event["involvedObject"]["name"], event["reason"]) == (name, reason):
                    event |= {"lastTimestamp": self._time(), "message": message}
                    return
            metadata = {"name": f"{name}.{next(self._numbers)}", "namespace": NAMESPACE}
            self.events.append(
                {
                    "metadata": metadata | {"creationTimestamp": self._time()},
                    "involvedObject": {"kind": kind, "name": name, "namespace": NAMESPACE},
                    "reason": reason,
                    "message": message,
                    "lastTimestamp": self._time(),
                }
            )

    def asked(self, verb: str, resource: str) -> int:
        """Return how often something was asked for."""
        return self.requests.count((verb, resource))

    # The Job controller, the scheduler and the kubelet.

    def _control(self) -> None:
        for name, job in self.jobs.items():
            status, pods = job["status"], self._pods_of(name)
            if self._is(job, "Complete") or self._is(job, "Failed"):
                continue
            if job["spec"].get("suspend"):
                for pod in pods:
                    self._terminate(pod)
                self._condition(job, "Suspended", "JobSuspended", "Job suspended")
                status.pop("startTime", None)
                continue
            status["conditions"] = [c for c in status["conditions"] if c["type"] != "Suspended"]
            status.setdefault("startTime", self._time())
            ended = [p["status"]["phase"] for p in pods if p["status"]["phase"] in _ENDED]
            if "Succeeded" in ended:
                self._condition(job, "Complete", "CompletionsReached", "Reached expected number")
            elif ended or status.get("failed"):
                message = "Job has reached the specified backoff limit"
                self._condition(job, "Failed", "BackoffLimitExceeded", message)
            elif not pods:
                self._create_pod(job)

    def _create_pod(self, job: Object) -> None:
        name = job["metadata"]["name"]
        if self.forbidden:
            message = f'Error creating: pods "{name}-x" is forbidden: {self.forbidden}'
            self.event("Job", name, "FailedCreate", message)
            return
        template = job["spec"]["template"]
        number = next(self._numbers)
        metadata = {
            "name": f"{name}-{number:05d}",
            "uid": str(uuid.uuid4()),
            "namespace": NAMESPACE,
            "labels": template["metadata"]["labels"] | {JOB_NAME: name},
            "creationTimestamp": self._time(),
        }
        status = {"phase": "Pending", "conditions": [], "startTime": self._time()}
        spec = template["spec"] | {"nodeName": f"node{number}"}
        pod = {"metadata": metadata, "spec": spec, "status": status}
        self.pods[metadata["name"]] = pod
        if self.stuck is not None:
            status |= self.stuck
            return
        (container,) = spec["containers"]
        steps = self.program(container["args"])
        self._containers[metadata["name"]] = _Container(steps, self.now + START_SECONDS)
        waiting = {"waiting": {"reason": "ContainerCreating"}}
        status["containerStatuses"] = [{"name": container["name"], "state": waiting}]

    def _due(self, end: float) -> list[tuple[float, str]]:
        return [(c.due, name) for name, c in self._containers.items() if c.due <= end]

    def _kubelet(self, name: str) -> None:
        pod, container = self.pods[name], self._containers[name]
        if "deletionTimestamp" in pod["metadata"]:
            # Its container has saved and ended with 75: the pod is gone with its last finalizer.
            del self.pods[name], self._containers[name]
            return
        self._begun.add(name)
        pod["status"]["phase"] = "Running"
        pod["status"]["containerStatuses"] = [{"name": "trainer", "state": {"running": {}}}]
        try:
            container.due = self.now + next(container.steps)
        except StopIteration as stop:
            self._end(pod, int(stop.value))

    def _end(self, pod: Object, code: int) -> None:
        self._containers.pop(pod["metadata"]["name"], None)
        terminated = {"exitCode": code, "finishedAt": self._time()}
        terminated["reason"] = "Error" if code else "Completed"
        pod["status"]["phase"] = "Failed" if code else "Succeeded"
        pod["status"]["containerStatuses"] = [
            {"name": "trainer", "state": {"terminated": terminated}}
        ]

    def _terminate(self, pod: Object) -> None:
        """Set a pod's end, as a deletion does; it takes the time to save."""
        name, metadata = pod["metadata"]["name"], pod["metadata"]
        if "deletionTimestamp" in metadata or pod["status"]["phase"] in _ENDED:
            return
        grace = pod["spec"]["terminationGracePeriodSeconds"]
        metadata["deletionTimestamp"] = self._time(grace)
        metadata["deletionGracePeriodSeconds"] = grace
        self._containers[name] = _Container(short([]), self.now + SAVE_SECONDS)
        job = self.jobs.get(metadata["labels"][JOB_NAME])
        if job is not None and not job["spec"].get("suspend"):
            job["status"]["failed"] = 1

    def _pods_of(self, job: str) -> list[Object]:
        return [p for p in self.pods.values() if p["metadata"]["labels"][JOB_NAME] == job]

    def _condition(self, job: Object, kind: str, reason: str, message: str) -> None:
        if not self._is(job, kind):
            condition = {"type": kind, "status": "True", "reason": reason, "message": message}
            job["status"]["conditions"].append(condition | {"lastTransitionTime": self._time()})

    @staticmethod
    def _is(job: Object, kind: str) -> bool:
        return any(c["type"] == kind for c in job["status"]["conditions"])

    def _time(self, later: float = 0.0) -> str:
        return datetime.fromtimestamp(self.now + later, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    # The API.

    def answer(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> object:
        """Return what is answered: an object, or the text of a log; raises Refusal."""
        match = _PATH.fullmatch(path)
        if match is None or match["namespace"] != NAMESPACE:
            raise Refusal(404, "the server could not find the requested resource")
        kind, name, log = match["kind"], match["name"], match["log"]
        resource = "pods/log" if log else kind
        verb = _VERBS[method] if method != "GET" or name else "list"
        with self._lock:
            self.requests.append((verb, resource))
            if self.refusals:
                raise self.refusals.pop(0)
            self._authorize(verb, kind, resource, name)
            if verb == "list":
                return self._list(kind, query)
            if log:
                return self._log(name, int(query["tailLines"]))
            if verb == "create":
                return self.create(json.loads(body))
            if name not in self.jobs:
                raise Refusal(404, f'jobs.batch "{name}" not found')
            return self._delete(name, json.loads(body)) if verb == "delete" else self.jobs[name]

    def _authorize(self, verb: str, kind: str, resource: str, name: str | None) -> None:
        if self.unknown:
            raise Refusal(401, "Unauthorized")
        if (verb, resource) in self.denied:
            group = "batch" if kind == "jobs" else ""
            what = f"{kind}{'.' + group if group else ''}" + (f' "{name}"' if name else "")
            raise Refusal(
                403,
                f'{what} is forbidden: User "{USER}" cannot {verb} resource "{resource}" in API '
                f'group "{group}" in the namespace "{NAMESPACE}"',
            )

    def create(self, job: Object) -> Object:
        """Create a Job, whoever asks for it."""
        name = job["metadata"]["name"]
        if name in self.jobs:
            raise Refusal(409, f'jobs.batch "{name}" already exists')
        for label, value in job["metadata"]["labels"].items():
            if not LABEL_VALUE.fullmatch(value):
                raise Refusal(
                    422,
                    f'Job.batch "{name}" is invalid: metadata.labels: Invalid value: "{value}": '
                    f"a valid label must be an empty string or consist of ... ({label})",
                )
        metadata = job["metadata"] | {"uid": str(uuid.uuid4()), "namespace": NAMESPACE}
        status: Object = {"conditions": []}
        self.jobs[name] = job | {"metadata": metadata, "status": status}
        return self.jobs[name]

    def _delete(self, name: str, options: Object) -> Object:
        uid = self.jobs[name]["metadata"]["uid"]
        wanted = options.get("preconditions", {}).get("uid", uid)
        if wanted != uid:
            raise Refusal(
                409,
                f'Operation cannot be fulfilled on jobs.batch "{name}": the UID in the '
                f"precondition ({wanted}) does not match the UID in record ({uid})",
            )
        assert options["propagationPolicy"] == "Background"
        del self.jobs[name]
        for pod in self._pods_of(name):
            if pod["status"]["phase"] in _ENDED:
                del self.pods[pod["metadata"]["name"]]
            self._terminate(pod)
        return {"kind": "Status", "status": "Success"}

    def _list(self, kind: str, query: Mapping[str, str]) -> Object:
        token = query.get("continue")
        if token:
            if self.expired:
                self.expired -= 1
                raise Refusal(410, "The provided continue parameter is too old to display a list")
            objects, start = self._snapshots.pop(token)
        else:
            held = {"jobs": self.jobs.values(), "pods": self.pods.values(), "events": self.events}
            objects, start = [o for o in held[kind] if _selected(o, query)], 0
            objects = json.loads(json.dumps(objects))
        end = start + min(int(query.get("limit") or self.page), self.page)
        metadata = {"resourceVersion": "1"}
        if end < len(objects):
            metadata["continue"] = str(uuid.uuid4())
            self._snapshots[metadata["continue"]] = objects, end
        return {"kind": "List", "metadata": metadata, "items": objects[start:end]}

    def _log(self, name: str | None, lines: int) -> str:
        pod = self.pods.get(name or "")
        if pod is None:
            raise Refusal(404, f'pods "{name}" not found')
        if name not in self._begun:
            message = f'container "trainer" in pod "{name}" is waiting to start: ContainerCreating'
            raise Refusal(400, message)
        written = self.logs.get(pod["metadata"]["labels"][JOB_NAME], "")
        return "".join(written.splitlines(keepends=True)[-lines:])


_ENDED = ("Succeeded", "Failed")
_VERBS = {"GET": "get", "POST": "create", "DELETE": "delete"}
_PATH = re.compile(
    r"/(apis/batch/v1/namespaces/(?=[^/]+/jobs)|api/v1/namespaces/(?=[^/]+/(pods|events)))"
    r"(?P<namespace>[^/]+)/(?P<kind>jobs|pods|events)(/(?P<name>[^/]+)(?P<log>/log)?)?"
)


def _selected(item: Object, query: Mapping[str, str]) -> bool:
    labels = [term.split("=") for term in query.get("labelSelector", "").split(",") if term]
    fields = [term.split("=") for term in query.get("fieldSelector", "").split(",") if term]
    metadata = item["metadata"]
    return all(metadata.get("labels", {}).get(k) == v for k, v in labels) and all(
        _field(item, k) == v for k, v in fields
    )


def _field(item: Object, path: str) -> object:
    first, _, last = path.partition(".")
    assert first in ("metadata", "involvedObject"), path
    return item[first][last]


def _handler(server: KubernetesServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else the second packet of an answer waits for the first one's acknowledgement.
        disable_nagle_algorithm = True

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url, status = urlsplit(self.path), 200
            try:
                answer = server.answer(self.command, url.path, dict(parse_qsl(url.query)), body)
            except Refusal as refusal:
                status = refusal.status
                answer = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}
                answer |= {"message": str(refusal), "reason": REASONS[status]}
            data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_DELETE = do_GET  # noqa: N815

    return Handler

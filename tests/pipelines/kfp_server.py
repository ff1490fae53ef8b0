"""A small complete KFP API server: what kfp.Client asks of one, in memory, over real HTTP.

Its answers, their errors among them, are worded like those of the API server of KFP 2.15. Runs do
nothing by themselves: a test says with `progress` what a run looks like when it is looked at next.
"""

import json
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from tests.http_server import RestartableServer

PREFIX = "/apis/v2beta1/"
Values = dict[str, Any]
# What lists are called in an answer, and what an entry's id is called.
KINDS = {
    "pipelines": ("pipelines", "pipeline_id"),
    "versions": ("pipeline_versions", "pipeline_version_id"),
    "experiments": ("experiments", "experiment_id"),
    "runs": ("runs", "run_id"),
    "recurringruns": ("recurringRuns", "recurring_run_id"),
}


class Refusal(Exception):
    """An answer that is not 200: HTTP status, gRPC code, message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class KfpServer(RestartableServer):
    """The server and what it holds.

    Args:
        token: If given, whoever does not send it is refused.
        multi_user: Whether everything belongs to a namespace.
        page: Entries of a page at most, however many are asked for.
    """

    token: str | None = None
    multi_user: bool = False
    page: int = 100
    held: dict[str, list[Values]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    requests: list[tuple[str, str]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    """Given, one a request, before anything else is looked at."""
    before: Callable[[str, str], None] = lambda _method, _path: None
    """Called with method and path before an answer, for what somebody else does meanwhile."""

    def __post_init__(self) -> None:
        self._progress: dict[str, list[Values]] = {}
        self._lock = threading.RLock()
        self.listen(_handler(self))

    def progress(self, run: str, *looks: Values) -> None:
        """Let a run have these further values, one look after the other; the last ones stay."""
        self._progress[run] = list(looks)

    def add(self, kind: str, values: Values) -> Values:
        """Make an entry; refused where its name is taken."""
        unique = {"pipelines": "namespace", "versions": "pipeline_id", "experiments": "namespace"}
        scope = unique.get(kind)
        name = values.get("display_name")
        with self._lock:
            if scope and any(
                e["display_name"] == name and e.get(scope) == values.get(scope)
                for e in self.held[kind]
            ):
                message = f"The name {name} already exist. Please specify a new name"
                raise Refusal(409, 6, message)
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            made = {**values, KINDS[kind][1]: str(uuid.uuid4()), "created_at": now}
            self.held[kind].append(made)
        return made

    def answer(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> Values:
        """Return what is answered; raises Refusal."""
        words = path.removeprefix(PREFIX).split("/")
        if words == ["healthz"]:
            return {"multi_user": self.multi_user, "pipeline_store": "database"}
        if words == ["pipelines", "upload_version"]:
            return self._upload(query, body)
        if words[0] == "pipelines" and words[2:3] == ["versions"]:
            query = {**query, "pipeline_id": words[1]}
            words = words[2:]
        kind = words[0]
        if kind not in KINDS:
            raise Refusal(404, 5, "Not Found")
        if len(words) == 2:
            return self._one(method, kind, words[1])
        if method == "POST":
            return self.add(kind, self._checked(kind, json.loads(body)))
        return self._list(kind, query)

    def _one(self, method: str, kind: str, identity: str) -> Values:
        name = KINDS[kind][1]
        identity, _, verb = identity.partition(":")
        for entry in self.held[kind]:
            if entry[name] == identity:
                if verb == "terminate":
                    entry["state"] = "CANCELED"
                    return {}
                if method == "DELETE":
                    self.held[kind].remove(entry)
                    return {}
                looks = self._progress.get(identity, [])
                if looks:
                    entry.update(looks.pop(0))
                return entry
        raise Refusal(404, 5, f"{kind} {identity} not found")

    def _list(self, kind: str, query: Mapping[str, str]) -> Values:
        entries = self.held[kind]
        scopes = ["experiment_id", "pipeline_id"] + ["namespace"] * self.multi_user
        for scope in scopes:
            if query.get(scope):
                entries = [e for e in entries if e.get(scope) == query[scope]]
        if self.multi_user and kind == "experiments" and not query.get("namespace"):
            raise Refusal(400, 3, "Invalid input error: a namespace cannot be empty")
        if query.get("filter"):
            for predicate in json.loads(query["filter"])["predicates"]:
                # kfp.Client says it by number.
                assert predicate["operation"] in ("EQUALS", 1)
                entries = [e for e in entries if e[predicate["key"]] == predicate["stringValue"]]
        start = int(query.get("page_token") or 0)
        end = start + min(int(query.get("page_size") or 10), self.page)
        response: Values = {KINDS[kind][0]: entries[start:end], "total_size": len(entries)}
        if end < len(entries):
            response["next_page_token"] = str(end)
        return response

    def _checked(self, kind: str, values: Values) -> Values:
        """Return a new entry with what the server adds; raises Refusal."""
        if kind in ("runs", "recurringruns"):
            wanted = values["pipeline_version_reference"]["pipeline_version_id"]
            self._one("GET", "versions", wanted)
            self._one("GET", "experiments", values["experiment_id"])
            values.setdefault("service_account", "pipeline-runner")
        if kind == "runs":
            values["state"] = "PENDING"
        if kind == "recurringruns":
            cron = values["trigger"]["cron_schedule"]["cron"]
            if any(word.isdigit() and int(word) > 59 for word in cron.split()):
                raise Refusal(400, 3, "Schedule cron is not a supported format")
        return values

    def _upload(self, query: Mapping[str, str], body: bytes) -> Values:
        self._one("GET", "pipelines", query["pipelineid"])
        message: Message = BytesParser(policy=HTTP).parsebytes(body)
        (part,) = message.get_payload()  # type: ignore[misc]
        documents = list(yaml.safe_load_all(part.get_payload(decode=True)))  # type: ignore[union-attr, arg-type]
        spec = dict(zip(("pipeline_spec", "platform_spec"), documents, strict=False))
        values = {"display_name": query["name"], "pipeline_id": query["pipelineid"]}
        return self.add("versions", {**values, "pipeline_spec": spec})


def _handler(server: KfpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self._handle()

        do_POST = do_DELETE = do_GET  # noqa: N815

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = self.headers.get("Content-Type") or ""
            if kind.startswith("multipart/"):
                body = f"Content-Type: {kind}\r\n\r\n".encode() + body
            url = urlsplit(self.path)
            server.requests.append((self.command, url.path))
            try:
                server.before(self.command, url.path)
                if server.refusals:
                    raise server.refusals.pop(0)
                if server.token and self.headers.get("authorization") != f"Bearer {server.token}":
                    raise Refusal(401, 16, "Unauthenticated")
                response = server.answer(self.command, url.path, dict(parse_qsl(url.query)), body)
                status = 200
            except Refusal as refusal:
                status, message = refusal.status, str(refusal)
                response = {"code": refusal.code, "message": f"Failed: {message}"}
                response["details"] = [{"code": refusal.code, "message": message}]
            data = json.dumps(response).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler

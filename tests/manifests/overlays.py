"""The overlays as `kubectl apply -k` would send them, and who may reach whom in them."""

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from liverseg.platform.pod_settings import PodSettings
from liverseg.race.executors.job_manifest import manifest
from liverseg.race.records.job import Job

MANIFESTS = Path(__file__).parents[2] / "manifests"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
TOOLS = Path(os.environ.get("TOOLS") or Path.home() / ".cache" / "liverseg" / "tools")

Object = dict[str, Any]


def build(folder: Path) -> list[Object]:
    """Return what kustomize makes of a folder."""
    command = ["kubectl", "kustomize", folder]
    if shutil.which("kubectl") is None:
        # Never skipped: these manifests are what an installation is.
        command = [TOOLS / "kustomize", "build", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@functools.cache
def overlay(name: str) -> list[Object]:
    return build(MANIFESTS / "overlays" / name)


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """Return the objects of a kind by name."""
    return {o["metadata"]["name"]: o for o in objects if o["kind"] == kind}


def templates(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield the pod templates with the names of what they are in."""
    for document in objects:
        if "template" in document.get("spec", {}):
            yield f"{document['kind']}/{document['metadata']['name']}", document["spec"]["template"]


def trainer() -> Object:
    """Return the pod template of a trainer, which the controller makes."""
    job = Job.of("0123456789ab", "0a1b2c3d", 7, 2, 0, 1000)
    settings = PodSettings(image="trainer@sha256:0")
    template: Object = manifest(job, "s3://liverseg/store", settings, None)["spec"]["template"]
    return template


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects; of the operators only In, and others are an error."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())


def allowed(objects: list[Object], labels: Mapping[str, str], direction: str) -> set[str] | None:
    """Return whom a pod may reach ("egress") or be reached by ("ingress"); None: anybody.

    A policy that selects a pod forbids what no policy allows (NetworkPolicySpec.policyTypes).
    """
    permitted: set[str] = set()
    closed = False
    for policy in of_kind(objects, "NetworkPolicy").values():
        spec = policy["spec"]
        if not selects(spec["podSelector"], labels):
            continue
        closed |= direction.capitalize() in spec["policyTypes"]
        for rule in spec.get(direction, []):
            peers = rule.get("to" if direction == "egress" else "from") or [{}]
            ports = rule["ports"]  # a rule without ports would be every port
            permitted |= {f"{_peer(p)}:{t['port']}/{t['protocol']}" for p in peers for t in ports}
    return permitted if closed else None


def _peer(peer: Object) -> str:
    if not peer:
        return "anywhere"
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    namespace = peer.get("namespaceSelector", {}).get("matchLabels", {})
    pods = peer.get("podSelector", {})
    words = [
        *namespace.values(),
        *(v for k, v in pods.get("matchLabels", {}).items() if k.endswith("component")),
        *("|".join(e["values"]) for e in pods.get("matchExpressions", [])),
    ]
    return " ".join(words)

"""A cluster for tests: namespaces of their own, the overlay `test`, and a race that is watched."""

import json
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from liverseg.race.audit.replay import replay
from liverseg.race.decide import cost
from liverseg.race.records import facts
from liverseg.race.records.facts import Heartbeat
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.race.records.study import Study
from liverseg.settings import Settings, from_mapping
from liverseg.steps.race import race
from liverseg.storage.open import open_store
from liverseg.storage.port import LocatedStore
from tests.steps.tiny_study import SETTINGS, study_in

ROOT = Path(__file__).parents[2]
BUCKET = "liverseg-test"
GPUS = 4
RACE_SECONDS = 1500.0
# For Python to end and the kubelet to say so, on a busy machine.
ENDING_SECONDS = 60.0
# Sixteen seeds, five rungs, a network that learns nothing in 32 iterations but always the same.
SIXTEEN = from_mapping(
    {"race": {"seeds": 16, "minimum_iterations": 2, "maximum_iterations": 32}}, SETTINGS
)
# Four seeds that train long enough to be hit in the middle.
FOUR = from_mapping(
    {
        "race": {"seeds": 4, "minimum_iterations": 100, "maximum_iterations": 400},
        "training": {"validation_interval": 10},
    },
    SETTINGS,
)
# Small enough for four at a time on two cores; the rest is as on any cluster.
PODS: dict[str, Any] = {
    "cpu": "250m",
    "memory": "1500Mi",
    "grace_seconds": 30,
    "poll_seconds": 1.0,
}


class Cluster:
    """kubectl, and the images and store that the tests were given."""

    def __init__(self) -> None:
        self.images = {
            name: (ROOT / "build" / f"{name}.image").read_text(encoding="utf-8").strip()
            for name in ("controller", "trainer")
        }
        self.inside = os.environ["STORE_IN_CLUSTER"]

    def run(self, *words: str, text: str | None = None, check: bool = True) -> str:
        """Return what kubectl prints."""
        done = subprocess.run(
            ["kubectl", *words], input=text, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(words)}: {done.stderr}")
        return done.stdout

    def get(self, kind: str, namespace: str, labels: str = "") -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        selector = ["-l", labels] if labels else []
        listing = json.loads(self.run("get", kind, "-n", namespace, *selector, "-o", "json"))
        items: list[dict[str, Any]] = listing["items"]
        return items

    def apply(self, objects: list[Mapping[str, Any]]) -> None:
        """Apply with the API server's validation."""
        text = yaml.safe_dump_all(objects)
        self.run("apply", "--server-side", "--validate=strict", "-f", "-", text=text)

    def overlay(self, name: str, namespace: str) -> list[dict[str, Any]]:
        """Return the objects of an overlay, in a namespace of the test's own."""
        text = self.run("kustomize", str(ROOT / "manifests" / "overlays" / name))
        objects = [document for document in yaml.safe_load_all(text) if document]
        for document in objects:
            if document["kind"] == "Namespace":
                document["metadata"]["name"] = namespace
            else:
                document["metadata"]["namespace"] = namespace
            for subject in document.get("subjects", []):
                subject["namespace"] = namespace
        return objects


class Race:
    """One study in a namespace and a store of its own, raced by the overlay's Job."""

    def __init__(self, cluster: Cluster, settings: Settings, **pods: Any) -> None:
        self.cluster = cluster
        self.namespace = f"lv-test-{uuid.uuid4().hex[:8]}"
        self.pods = PODS | pods
        self.store: LocatedStore = open_store(f"s3://{BUCKET}/{self.namespace}")
        self.study: Study = study_in(self.store, settings)
        self.monitor = PodMonitor(self)
        self._owner: dict[str, Any] | None = None

    def set_up(self) -> None:
        """Apply the overlay but for its Job, with the Secret of the store."""
        objects = self.cluster.overlay("test", self.namespace)
        self.job = next(o for o in objects if o["kind"] == "Job")
        self.cluster.apply([o for o in objects if o is not self.job])
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        secret = {name: os.environ[name] for name in names}
        secret["AWS_ENDPOINT_URL"] = self.cluster.inside
        self.cluster.apply(
            [
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": "liverseg-store", "namespace": self.namespace},
                    "stringData": secret,
                }
            ]
        )

    def tear_down(self) -> None:
        self.cluster.run("delete", "namespace", self.namespace, "--wait=false", check=False)

    def start(self, name: str = "liverseg-study", **pods: Any) -> None:
        """Start a controller; a second one has another name."""
        job = json.loads(json.dumps(self.job))
        job["metadata"]["name"] = name
        container = job["spec"]["template"]["spec"]["containers"][0]
        container["image"] = self.cluster.images["controller"]
        container["imagePullPolicy"] = "IfNotPresent"
        container["env"] = [e for e in container["env"] if e["name"] != "STUDY_DATASET"]
        container["args"] = [
            "study",
            "run",
            f"--store={self.store.url}",
            f"--study={self.study.id}",
            f"--gpus={GPUS}",
            "--no-compare-baseline",
            f"--trainer-image={self.cluster.images['trainer']}",
            f"--pods={json.dumps(self.pods | pods)}",
        ]
        self.cluster.apply([_as_task(job, self._owner) if self._owner else job])
        self.monitor.start()

    def owned_by_a_workflow(self) -> None:
        """Let the controller's pod look like a KFP task's, which an Argo Workflow owns."""
        name = {"name": "run", "namespace": self.namespace}
        workflow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": name}
        self.cluster.apply([workflow])
        uid = self.cluster.run(
            "get", "workflow", "run", "-n", self.namespace, "-o", "jsonpath={.metadata.uid}"
        )
        self._owner = {k: workflow[k] for k in ("apiVersion", "kind")} | {"name": "run", "uid": uid}

    def start_again(self) -> None:
        """Start a new controller where nothing is left of the last one."""
        self._owner = None
        self.monitor = PodMonitor(self)
        self.start()

    def wait(self, what: Callable[[], bool], seconds: float = RACE_SECONDS) -> None:
        """Wait until something holds; AssertionError with all that is known if it does not."""
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:.0f} s in vain\n{self.log()}")
            time.sleep(0.5)

    def finish(self, job: str = "liverseg-study") -> dict[str, Any]:
        """Wait for the controller's Job to complete; return where the study stands."""

        self.wait(lambda: self.ended(job))
        self.monitor.stop()
        return race.status(self.store, self.study.id)

    def ended(self, job: str = "liverseg-study") -> bool:
        """Return whether the controller's Job is complete; AssertionError if it has failed."""
        text = self.cluster.run("get", "job", job, "-n", self.namespace, "-o", "json", check=False)
        conditions = json.loads(text)["status"].get("conditions", []) if text else []
        ended = {c["type"] for c in conditions if c["status"] == "True"}
        assert "Failed" not in ended, self.log()
        return "Complete" in ended

    def heartbeat(self) -> Heartbeat:
        """Return the lease on the study."""
        heartbeat = facts.read_heartbeat(self.store, self.study.id)
        assert heartbeat is not None
        return heartbeat

    def curves(self) -> int:
        return len(self.store.keys(f"studies/{self.study.id}/curves/"))

    def trainers(self, phase: str = "Running") -> list[dict[str, Any]]:
        """Return the trainers' pods in a phase that nobody has asked to end."""
        labels = "app.kubernetes.io/component=trainer"
        pods = self.cluster.get("pods", self.namespace, labels)
        return [
            pod
            for pod in pods
            if pod["status"].get("phase") == phase and "deletionTimestamp" not in pod["metadata"]
        ]

    def a_trainer_at_work(self) -> dict[str, Any]:
        """Wait for a trainer that has committed a checkpoint of its own; return its pod."""
        at_work: list[dict[str, Any]] = []

        def works() -> bool:
            for pod in self.trainers():
                labels = pod["metadata"]["labels"]
                seed, attempt = labels["liverseg.io/seed"], labels["liverseg.io/attempt"]
                prefix = f"studies/{self.study.id}/curves/{seed}/"
                if any(f"-a{attempt}_" in k for k in self.store.keys(prefix)):
                    at_work.append(pod)
                    return True
            return False

        self.wait(works)
        return at_work[0]

    def attempts(self) -> int:
        """Return how many trainers have begun."""
        return len(SnapshotReader(self.store, self.study.id).read().spans)

    def check(self, expected: tuple[list[list[int]], str]) -> None:
        """The race came out as `expected`, nothing is unaccounted for and replay agrees."""
        assert outcome(self.store, self.study) == expected
        snapshot = SnapshotReader(self.store, self.study.id).read()
        assert all(span.ended for span in snapshot.spans.values())
        ledger = cost.ledger(self.study, snapshot)
        total = sum(ledger[o]["seconds"] for o in ("useful", "repeated", "pruned", "startup"))
        assert abs(total - snapshot.spent_seconds) < 1e-6
        assert list(replay(self.store, self.study.id).findings) == []

    def log(self) -> str:
        """Return what the controller said, and how the pods are."""
        pods = self.cluster.run("get", "pods", "-n", self.namespace, "-o", "wide", check=False)
        log = self.cluster.run(
            "logs",
            "-n",
            self.namespace,
            "-l",
            "app.kubernetes.io/component=controller",
            "--tail=60",
            check=False,
        )
        return f"{pods}\n{log}"


class PodMonitor:
    """Polls the trainers' pods, and records violations."""

    def __init__(self, race: Race) -> None:
        self._race = race
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.most_at_once = 0
        self.ending_seconds = ENDING_SECONDS
        self.wrong: list[str] = []
        self._reported: dict[str, float] = {}

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            try:
                self._once()
            except Exception as error:  # noqa: BLE001 - a server that is away is part of the tests
                print(f"monitor: {error}")  # noqa: T201

    def _once(self) -> None:
        study, store = self._race.study.id, self._race.store
        seen = SnapshotReader(store, study).read().reports
        reported = {(r.rung, r.seed, r.attempt) for r in seen}
        now = time.monotonic()
        live: dict[int, list[str]] = {}
        for pod in self._race.trainers():
            labels, name = pod["metadata"]["labels"], pod["metadata"]["name"]
            seed = int(labels["liverseg.io/seed"])
            live.setdefault(seed, []).append(name)
            rung, attempt = int(labels["liverseg.io/rung"]), int(labels["liverseg.io/attempt"])
            # Who has reported is paused or pruned, and only has to end.
            if (rung, seed, attempt) in reported:
                waited = now - self._reported.setdefault(name, now)
                if waited > self.ending_seconds:
                    self.wrong.append(f"{name} holds its GPU {waited:.0f} s after its report")
        count = sum(len(names) for names in live.values())
        self.most_at_once = max(self.most_at_once, count)
        if count > GPUS:
            self.wrong.append(f"{count} pods at once")
        self.wrong += [f"two pods of seed {s}: {names}" for s, names in live.items() if names[1:]]


def _as_task(job: Mapping[str, Any], owner: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Job's pod as KFP makes a task's: by itself, and an Argo Workflow's."""
    template = job["spec"]["template"]
    owned = dict(owner) | {"controller": True, "blockOwnerDeletion": True}
    name = {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    container = template["spec"]["containers"][0]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": job["metadata"]["name"],
            "namespace": job["metadata"]["namespace"],
            "labels": template["metadata"]["labels"],
            "ownerReferences": [owned],
        },
        "spec": template["spec"] | {"containers": [container | {"env": [*container["env"], name]}]},
    }


def outcome(store: LocatedStore, study: Study) -> tuple[list[list[int]], str]:
    """Return who was promoted at every rung, and the SHA-256 of the winner's weights."""
    status = race.status(store, study.id)
    result = facts.read_result(store, study.id)
    assert result is not None
    return [rung["promoted"] for rung in status["rungs"]], result.weights_sha256

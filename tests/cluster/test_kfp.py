"""A whole run on a Kubeflow Pipelines that KFP_HOST names, with real images, data and pods.

KFP_NAMESPACE is where its runs' pods are [kubeflow]; KFP_TOKEN a bearer token, where it wants one.
"""

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from liverseg.race.records.snapshot import SnapshotReader
from liverseg.settings import Settings
from liverseg.steps.data import phantom, transfer
from liverseg.storage.open import open_store
from tests.cluster.cluster import BUCKET, PODS, Cluster

pytestmark = pytest.mark.skipif(
    "KFP_HOST" not in os.environ, reason="KFP_HOST names no KFP API server"
)
SETTINGS = {
    "race": {"seeds": 2, "minimum_iterations": 20, "maximum_iterations": 40},
    "training": {"validation_interval": 10},
}
CASES = 6


@dataclass(frozen=True)
class KfpProfile:
    """A namespace of KFP's that has our Secret and rights, and a prefix of the store."""

    cluster: Cluster
    namespace: str
    url: str

    def submit(self, **params: str) -> tuple[int, dict[str, Any]]:
        """Run to the end; return the exit code and what was printed."""
        values = {
            "data": f"{self.url}/data",
            "store": f"{self.url}/store",
            "preset": "demo",
            "settings": json.dumps(SETTINGS),
            "pods": json.dumps(PODS | {"gpus": 0}),
            "compare_baseline": "false",
        } | params
        words = [f"--param={name}={value}" for name, value in values.items()]
        words += [f"--{name}-image={image}" for name, image in self.cluster.images.items()]
        if "KFP_TOKEN" in os.environ:
            words.append(f"--existing-token={os.environ['KFP_TOKEN']}")
        command = [sys.executable, "-m", "liverseg.cli", "pipeline", "submit", "--json", "--wait"]
        host = f"--host={os.environ['KFP_HOST']}"
        done = subprocess.run([*command, host, *words], capture_output=True, text=True, check=False)
        assert done.stdout, done.stderr
        output: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, output

    def pods(self, run: str) -> list[dict[str, Any]]:
        """Return the pods in which a run's tasks did their work, without KFP's own."""
        pods = self.cluster.get("pods", self.namespace, f"pipeline/runid={run}")
        return [pod for pod in pods if "system-container-impl" in pod["metadata"]["name"]]


@pytest.fixture(scope="module")
def profile(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> KfpProfile:
    namespace = os.environ.get("KFP_NAMESPACE", "kubeflow")
    url = f"s3://{BUCKET}/kfp-{uuid.uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("phantom")
    phantom.run(folder, CASES, 0)
    transfer.push(folder, open_store(f"{url}/data"), Settings())
    objects = cluster.overlay("kubeflow", namespace)
    # The store is wherever STORE_IN_CLUSTER says.
    cluster.apply([o for o in objects if o["kind"] != "NetworkPolicy"])
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    secret = {name: os.environ[name] for name in names} | {"AWS_ENDPOINT_URL": cluster.inside}
    metadata = {"name": "liverseg-store", "namespace": namespace}
    kind = {"apiVersion": "v1", "kind": "Secret"}
    cluster.apply([{**kind, "metadata": metadata, "stringData": secret}])
    return KfpProfile(cluster, namespace, url)


def test_a_run_ends_with_a_report_and_a_second_one_reuses_it_all(profile: KfpProfile) -> None:
    code, first = profile.submit()
    assert code == 0, first
    assert first["state"] == "SUCCEEDED"
    assert set(first["tasks"].values()) == {"SUCCEEDED"}
    store = open_store(f"{profile.url}/store")
    studies = {key.split("/")[1] for key in store.keys("studies/")}
    (study,) = studies
    assert store.keys(f"studies/{study}/report.html")
    reports = SnapshotReader(store, study).read().reports
    assert reports
    # The images say who they run as, and nothing of KFP's changes it.
    for pod in profile.pods(first["run"]):
        for container in pod["spec"]["containers"]:
            assert container.get("securityContext", {}).get("runAsUser", 1000) == 1000
    code, second = profile.submit(gpus="3")
    assert code == 0, second
    assert second["run"] != first["run"]
    assert SnapshotReader(store, study).read().reports == reports
    assert {key.split("/")[1] for key in store.keys("studies/")} == studies
    # Of what has a digest among its parameters nothing ran again.
    assert len(profile.pods(second["run"])) < len(profile.pods(first["run"]))


def test_a_failed_run_says_which_task_and_still_tells_where_it_stands(profile: KfpProfile) -> None:
    code, failed = profile.submit(preset="nothing")
    assert code == 6
    assert failed["state"] == "FAILED"
    assert failed["tasks"]["find cases"] == "FAILED"
    assert failed["tasks"]["summary"] == "SUCCEEDED"

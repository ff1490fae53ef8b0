"""What the Job of an attempt looks like (fields of batch/v1 and core/v1)."""

import re
from typing import Any

import pytest

from liverseg.platform.pod_settings import METRICS_PORT, PodSettings
from liverseg.race.executors import job_manifest
from liverseg.race.records.job import Job
from liverseg.settings import BASELINE_SEED
from tests.manifests.restricted import violations
from tests.race.rehearsal import NONCE

JOB = Job.of("0123456789ab", NONCE, 7, 2, 0, 20_000)
STORE = "s3://bucket/store"


def manifest(job: Job = JOB, **settings: Any) -> job_manifest.Manifest:
    return job_manifest.manifest(
        job, STORE, PodSettings(image="trainer@sha256:1", **settings), None
    )


def test_a_job_is_what_kubernetes_must_not_do_again() -> None:
    spec = manifest()["spec"]
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert "activeDeadlineSeconds" not in spec
    assert spec["template"]["spec"]["activeDeadlineSeconds"] == 4 * 20_000 + 3600
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert "suspend" not in spec
    args = spec["template"]["spec"]["containers"][0]["args"]
    assert args[0] == "train"
    assert {f"--nonce={NONCE}", "--seed=7", "--rung=2", "--attempt=0"} <= set(args)
    assert f"--store={STORE}" in args


def test_a_trainer_serves_its_metrics_at_the_address_of_its_pod() -> None:
    (container,) = manifest()["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert port == {"name": "metrics", "containerPort": METRICS_PORT}
    assert f"--metrics-port={METRICS_PORT}" in container["args"]
    address = {"fieldRef": {"fieldPath": "status.podIP"}}
    assert {"name": "POD_IP", "valueFrom": address} in container["env"]


def test_with_a_queue_kueue_decides_when_a_job_starts() -> None:
    queued = manifest(queue="gpus")
    assert queued["spec"]["suspend"] is True
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_gpus_tolerations_and_node_selectors_go_into_the_pod() -> None:
    spec = manifest(
        gpus=2,
        node_selector={"gpu": "h200"},
        priority_class="research",
        shared_memory="8Gi",
        image_pull_secret="pull",  # noqa: S106 - its name
    )["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert spec["nodeSelector"] == {"gpu": "h200"}
    assert spec["priorityClassName"] == "research"
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    on_cpu = manifest(gpus=0)["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in on_cpu["containers"][0]["resources"]["limits"]
    assert "tolerations" not in on_cpu


def test_a_trainer_asks_for_the_disk_that_its_images_need_and_has_no_limit_of_it() -> None:
    (container,) = manifest(disk="9Gi")["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["ephemeral-storage"] == "9Gi"
    assert "ephemeral-storage" not in container["resources"]["limits"]


def test_labels_of_ours_win_over_a_persons() -> None:
    labels = {"liverseg.io/seed": "mine", "app.kubernetes.io/name": "mine", "team": "liver"}
    made = manifest(labels=labels)
    for metadata in (made["metadata"], made["spec"]["template"]["metadata"]):
        assert metadata["labels"]["liverseg.io/seed"] == "0007"
        assert metadata["labels"]["app.kubernetes.io/name"] == "liverseg"
        assert metadata["labels"]["team"] == "liver"


def test_a_private_ca_is_mounted_read_only_and_named_to_the_trainer() -> None:
    made = manifest(ca_config_map={"name": "store-ca", "key": "root.pem"})
    spec = made["spec"]["template"]["spec"]
    assert not violations(made["spec"]["template"])
    (container,) = spec["containers"]
    source = {"name": "store-ca", "items": [{"key": "root.pem", "path": "ca.crt"}]}
    assert {"name": "ca", "configMap": source} in spec["volumes"]
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "ca"]
    assert mount["readOnly"] is True
    assert {"name": "AWS_CA_BUNDLE", "value": f"{mount['mountPath']}/ca.crt"} in container["env"]
    without = manifest()["spec"]["template"]["spec"]["containers"][0]
    assert "AWS_CA_BUNDLE" not in [variable["name"] for variable in without["env"]]


def test_a_file_in_a_trainers_working_directory_hides_no_module() -> None:
    (container,) = manifest()["spec"]["template"]["spec"]["containers"]
    assert {"name": "PYTHONSAFEPATH", "value": "1"} in container["env"]


def test_the_workflow_owns_the_job_and_does_not_control_it() -> None:
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run", "uid": "1"}
    made = job_manifest.manifest(JOB, STORE, PodSettings(image="i"), owner)
    (reference,) = made["metadata"]["ownerReferences"]
    assert reference == owner | {"controller": False, "blockOwnerDeletion": False}


def test_an_existing_job_is_the_same_whoever_owns_it_and_wherever_it_may_not_go() -> None:
    owner = {"apiVersion": "v1", "kind": "Workflow", "name": "run", "uid": "1"}
    settings = PodSettings(image="trainer@sha256:1")
    other = job_manifest.manifest(JOB, STORE, settings, owner, avoid=["node1"])
    assert job_manifest.difference(manifest(), other) is None


def test_a_name_is_valid_in_kubernetes_and_a_job_has_its_studys_nonce() -> None:
    longest = Job.of("0123456789ab", NONCE, BASELINE_SEED, 4, 1234, 80_000)
    assert re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", longest.name)
    assert len(longest.name) < 63
    made = job_manifest.manifest(longest, STORE, PodSettings(image="i"), None)
    for labels in (made["metadata"]["labels"], made["spec"]["template"]["metadata"]["labels"]):
        assert labels["liverseg.io/nonce"] == NONCE
    chosen = job_manifest.selector("0123456789ab", NONCE)
    assert chosen == f"liverseg.io/study=0123456789ab,liverseg.io/nonce={NONCE}"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"image": "trainer@sha256:2"}, "image is trainer@sha256:2, not trainer@sha256:1"),
        ({"cpu": "8"}, "resources is"),
        ({"grace_seconds": 1}, "spec-sha256"),
    ],
)
def test_an_existing_job_that_differs_is_named_with_both_values(changed, named) -> None:
    settings = PodSettings(**({"image": "trainer@sha256:1"} | changed))
    other = job_manifest.manifest(JOB, STORE, settings, None)
    assert named in str(job_manifest.difference(manifest(), other))
    elsewhere = job_manifest.manifest(
        JOB, "s3://other/store", PodSettings(image="trainer@sha256:1"), None
    )
    assert "args is" in str(job_manifest.difference(manifest(), elsewhere))

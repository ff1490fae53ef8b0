"""Each overlay builds, and has what it is for."""

import json
import re
from typing import Any

import pytest

from liverseg.cli.options import chosen_settings
from liverseg.cli.race.study import run
from liverseg.platform.pod_settings import PodSettings
from tests.manifests.overlays import (
    MANIFESTS,
    OVERLAYS,
    Object,
    build,
    of_kind,
    overlay,
    templates,
    trainer,
)

SECRET_NAME = re.compile("KEY|SECRET|PASSWORD|TOKEN|CREDENTIAL", re.IGNORECASE)
CLUSTER_WIDE = {"Namespace", "ClusterQueue", "ResourceFlavor"}
RESTRICTED = {
    f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")
}


@pytest.mark.parametrize("name", OVERLAYS)
def test_everything_is_in_one_namespace_and_can_be_found_by_label(name):
    objects = overlay(name)
    namespaces = {o["metadata"].get("namespace") for o in objects if o["kind"] not in CLUSTER_WIDE}
    assert len(namespaces) == 1
    for manifest in objects:
        assert manifest["metadata"]["labels"]["app.kubernetes.io/part-of"] == "liverseg"


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_namespace_of_our_own_enforces_restricted_and_a_profile_is_left_as_it_is(name):
    namespaces = list(of_kind(overlay(name), "Namespace").values())
    if name == "kubeflow":
        assert namespaces == []
    else:
        (namespace,) = namespaces
        assert namespace["metadata"]["labels"].items() >= RESTRICTED.items()


@pytest.mark.parametrize("name", OVERLAYS)
def test_there_is_no_value_of_a_secret(name):
    assert not of_kind(overlay(name), "Secret")
    for _, template in templates(overlay(name)):
        for container in template["spec"]["containers"]:
            for variable in container.get("env", []):
                assert "value" not in variable or not SECRET_NAME.search(variable["name"])
    for configuration in of_kind(overlay(name), "ConfigMap").values():
        assert not any(SECRET_NAME.search(k) for k in configuration["data"] if k.isupper())


def test_nobodys_keys_are_in_a_file():
    for path in MANIFESTS.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert "test-access-key" not in text
            assert "test-secret-key" not in text
            assert "minioadmin" not in text


@pytest.mark.parametrize("name", [name for name in OVERLAYS if name != "kubeflow"])
def test_the_studys_job_is_a_command_that_liverseg_understands(name, monkeypatch):
    options = _options(overlay(name), monkeypatch)
    assert options["dataset"] == "0123abcd"
    assert options["store"].startswith("s3://")
    assert options["executor"] == "auto"
    chosen_settings(options["preset_name"], options["settings_text"], ())
    pods = PodSettings.from_json(options["pods"])
    assert pods.queue == ("liverseg" if name == "standalone-kueue" else "")
    assert options["trainer_image"].rpartition(":")[2] not in ("", "latest")


@pytest.mark.parametrize("name", OVERLAYS)
def test_accounts_secrets_and_queues_have_the_names_that_trainers_use(name):
    defaults = PodSettings()
    assert defaults.service_account in of_kind(overlay(name), "ServiceAccount")
    secrets = {
        source["secretRef"]["name"]
        for _, template in [*templates(overlay(name)), ("trainer", trainer())]
        for container in template["spec"]["containers"]
        for source in container.get("envFrom", [])
        if "secretRef" in source
    }
    assert secrets == {defaults.store_secret}
    queues = of_kind(overlay(name), "LocalQueue")
    assert set(queues) == ({"liverseg"} if name == "standalone-kueue" else set())


def test_standalone_has_a_store_limits_and_room_for_a_race_with_a_gpu_a_seed():
    objects = overlay("standalone")
    (claim,) = of_kind(objects, "StatefulSet")["liverseg-minio"]["spec"]["volumeClaimTemplates"]
    room = of_kind(objects, "ResourceQuota")["liverseg"]["spec"]["hard"]
    assert room["requests.nvidia.com/gpu"] == "16"
    requests = trainer()["spec"]["containers"][0]["resources"]["requests"]
    assert 16 * int(requests["cpu"]) < int(room["requests.cpu"])
    assert 16 * int(requests["memory"][:-2]) < int(room["requests.memory"][:-2])
    assert claim["spec"]["resources"]["requests"]["storage"] == "200Gi"


def test_kueues_queue_covers_every_resource_that_is_asked_for():
    # One that is not covered keeps a Job waiting for ever.
    objects = overlay("standalone-kueue")
    (group,) = of_kind(objects, "ClusterQueue")["liverseg"]["spec"]["resourceGroups"]
    asked = set(trainer()["spec"]["containers"][0]["resources"]["requests"])
    asked |= set(of_kind(objects, "LimitRange")["liverseg"]["spec"]["limits"][0]["defaultRequest"])
    assert asked <= set(group["coveredResources"])
    assert [r["name"] for r in group["flavors"][0]["resources"]] == group["coveredResources"]


def test_pods_that_are_added_to_a_profile_get_no_istio_sidecar(manifests_copy):
    folder = manifests_copy / "overlays" / "kubeflow"
    with (folder / "kustomization.yaml").open("a") as file:
        file.write("components: [../../components/minio]\n")
    label_sets = [template["metadata"]["labels"] for _, template in templates(build(folder))]
    label_sets.append(trainer()["metadata"]["labels"])
    assert len(label_sets) == 4
    assert all(labels["sidecar.istio.io/inject"] == "false" for labels in label_sets)


def _options(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what `liverseg study run` reads from the Job's arguments."""
    job = of_kind(objects, "Job")["liverseg-study"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    values = of_kind(objects, "ConfigMap")["liverseg-study"]["data"] | {"STUDY_DATASET": "0123abcd"}
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    words = [re.sub(r"\$\((\w+)\)", lambda m: values[m[1]], word) for word in container["args"]]
    assert words[:2] == ["study", "run"]
    json.loads(values["STUDY_SETTINGS"])
    return run.make_context("run", words[2:]).params

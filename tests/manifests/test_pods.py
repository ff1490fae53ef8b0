"""What every pod of an overlay has to be, and a trainer too."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from liverseg import __version__
from tests.manifests.overlays import OVERLAYS, of_kind, overlay, templates, trainer
from tests.manifests.restricted import violations

PODS = [
    pytest.param(template, id=f"{name}-{what}")
    for name in OVERLAYS
    for what, template in templates(overlay(name))
]
EVERY_POD = pytest.mark.parametrize("template", [*PODS, pytest.param(trainer(), id="trainer")])
# Whom the API server has to know.
TOKENS = {"liverseg-controller", "liverseg-store-keys"}


@EVERY_POD
def test_every_pod_satisfies_pod_security_restricted(template):
    assert violations(template) == []


@EVERY_POD
def test_every_pod_has_a_root_file_system_that_it_cannot_write(template):
    for container in template["spec"]["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


@EVERY_POD
def test_every_pod_names_its_account_and_has_a_token_only_if_it_talks_to_the_api_server(template):
    spec = template["spec"]
    assert spec["serviceAccountName"].startswith("liverseg-")
    assert spec["automountServiceAccountToken"] is (spec["serviceAccountName"] in TOKENS)


@EVERY_POD
def test_every_container_asks_for_cpu_and_memory_and_has_a_limit_of_memory(template):
    for container in template["spec"]["containers"]:
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys()
        assert "memory" in resources["limits"]


@EVERY_POD
def test_every_pod_has_the_labels_by_which_policies_select(template):
    labels = template["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "liverseg"
    assert labels["app.kubernetes.io/component"]


@pytest.mark.parametrize("template", PODS)
def test_every_image_has_a_version_and_ours_have_this_one(template):
    for container in template["spec"]["containers"]:
        name, _, tag = container["image"].rpartition(":")
        assert name
        assert tag not in ("", "latest")
        if "liverseg" in name:
            assert tag == __version__


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_default_limit_is_below_what_a_trainer_asks_for(name):
    # A trainer names no CPU limit: one that a LimitRange gives it must not be below its request.
    for limits in of_kind(overlay(name), "LimitRange").values():
        assert all("default" not in limit for limit in limits["spec"]["limits"])


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(template: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = template["spec"]
        for parent in parents:
            node = node[int(parent)] if parent.isdigit() else node[parent]
        node[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        (_set("hostNetwork", True), "hostNetwork"),
        (_set("volumes", [{"name": "node", "hostPath": {"path": "/"}}]), "volume node"),
        (_set("securityContext.runAsNonRoot", False), "trainer: runAsNonRoot"),
        (_set("securityContext.runAsUser", 0), "trainer: runAsUser"),
        (_set("securityContext.seccompProfile", {}), "trainer: seccompProfile"),
        (_set("containers.0.securityContext.privileged", True), "trainer: privileged"),
        (_set("containers.0.securityContext.capabilities.drop", []), "trainer: capabilities.drop"),
        (
            _set("containers.0.securityContext.capabilities.add", ["SYS_ADMIN"]),
            "trainer: capabilities.add",
        ),
        (
            _set("containers.0.securityContext.allowPrivilegeEscalation", True),
            "trainer: allowPrivilegeEscalation",
        ),
        (_set("containers.0.ports", [{"hostPort": 80}]), "trainer: hostPort"),
    ],
)
def test_a_pod_that_is_not_restricted_is_found(change, violation):
    template = copy.deepcopy(trainer())
    change(template)
    assert violations(template) == [violation]

"""What Prometheus scrapes in each overlay, and what its operator reads."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from liverseg.cli.metrics import STORE_OUTAGE_SECONDS
from liverseg.platform.pod_settings import METRICS_PORT
from tests.manifests.overlays import (
    OVERLAYS,
    Object,
    build,
    of_kind,
    overlay,
    selects,
    templates,
    trainer,
)
from tests.monitoring.names import ROOT, TOOLS

OPERATOR = ("PodMonitor", "ServiceMonitor", "PrometheusRule")
COMPONENT = "app.kubernetes.io/component"
SCRAPED = ("controller", "exporter", "trainer")
TRAINER = {"app.kubernetes.io/name": "liverseg", "app.kubernetes.io/component": "trainer"}


def exporter(name: str) -> Object:
    return dict(templates(overlay(name)))["Deployment/liverseg-exporter"]


@pytest.fixture(params=OVERLAYS)
def with_operator(manifests_copy: Path, request: pytest.FixtureRequest) -> list[Object]:
    """An overlay with the component that is commented out in it."""
    folder = manifests_copy / "overlays" / request.param
    file = folder / "kustomization.yaml"
    chosen = yaml.safe_load(file.read_text())
    chosen.setdefault("components", []).append("../../components/monitoring-operator")
    file.write_text(yaml.safe_dump(chosen))
    return build(folder)


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_exporter_has_no_rights_and_the_store_s_key_in_a_place_to_patch(name):
    spec = exporter(name)["spec"]
    service_account = spec["serviceAccountName"]
    assert (
        of_kind(overlay(name), "ServiceAccount")[service_account]["automountServiceAccountToken"]
        is False
    )
    bindings = of_kind(overlay(name), "RoleBinding").values()
    assert service_account not in {s["name"] for binding in bindings for s in binding["subjects"]}
    (container,) = spec["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "liverseg-store"}}]


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_exporter_reads_the_store_of_the_overlay(name):
    (container,) = exporter(name)["spec"]["containers"]
    (source,) = [
        v["valueFrom"]["configMapKeyRef"] for v in container["env"] if v["name"] == "LIVERSEG_STORE"
    ]
    values = of_kind(overlay(name), "ConfigMap")[source["name"]]["data"]
    assert values[source["key"]].startswith("s3://")
    assert "--store=$(LIVERSEG_STORE)" in container["args"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_probes_and_the_service_of_the_exporter_ask_its_port(name):
    (container,) = exporter(name)["spec"]["containers"]
    (port,) = container["ports"]
    assert f"--port={port['containerPort']}" in container["args"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
    assert container["readinessProbe"]["timeoutSeconds"] > STORE_OUTAGE_SECONDS
    service = of_kind(overlay(name), "Service")["liverseg-exporter"]["spec"]
    assert selects({"matchLabels": service["selector"]}, exporter(name)["metadata"]["labels"])
    assert service["ports"][0]["targetPort"] == port["name"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_whatever_is_scraped_listens_at_its_pods_address_and_names_its_port(name):
    pods = [trainer(), *(template for _, template in templates(overlay(name)))]
    scraped = [p for p in pods if p["metadata"]["labels"].get(COMPONENT) in SCRAPED]
    services = of_kind(overlay(name), "Service").values()
    selected = [p for p in pods for s in services if "metrics" in targets(s) and matches(s, p)]
    # A Service that selects nothing, or a port that no pod names, would be scraped by nobody.
    assert len(selected) == len([s for s in services if "metrics" in targets(s)])
    for pod in scraped:
        (container,) = pod["spec"]["containers"]
        assert container["ports"] == [{"name": "metrics", "containerPort": METRICS_PORT}]
        address = {"fieldRef": {"fieldPath": "status.podIP"}}
        assert {"name": "POD_IP", "valueFrom": address} in container["env"]


def targets(service: Object) -> set[str]:
    return {port.get("targetPort") for port in service["spec"]["ports"]}


def matches(service: Object, pod: Object) -> bool:
    return selects({"matchLabels": service["spec"]["selector"]}, pod["metadata"]["labels"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_needs_no_operator_but_says_how_to_use_one(name):
    assert not any(of_kind(overlay(name), kind) for kind in OPERATOR)
    text = (ROOT / "manifests" / "overlays" / name / "kustomization.yaml").read_text()
    assert name in ("test", "standalone-kueue") or "components/monitoring-operator" in text


def test_the_operator_finds_services_and_trainers_by_their_labels(with_operator):
    monitor = of_kind(with_operator, "ServiceMonitor")["liverseg"]["spec"]
    selected = {
        name
        for name, service in of_kind(with_operator, "Service").items()
        if selects(monitor["selector"], service["metadata"]["labels"])
    }
    # With Kubeflow the controller is a task, whose pod has none of our labels.
    has_controller = "liverseg-study" in of_kind(with_operator, "Job")
    controller = {"liverseg-controller"} if has_controller else set()
    assert selected == {"liverseg-exporter"} | controller
    pods = of_kind(with_operator, "PodMonitor")["liverseg-trainers"]["spec"]
    assert selects(pods["selector"], TRAINER)
    endpoints = [*monitor["endpoints"], *pods["podMetricsEndpoints"]]
    assert {endpoint["port"] for endpoint in endpoints} == {"metrics"}
    # By default true; without it pods that have ended are asked for ever.
    assert all("filterRunning" not in endpoint for endpoint in endpoints)


def strict(schema: Any) -> Any:
    """Return an OpenAPI schema in which an unknown field is an error, as to `--validate=strict`."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: strict(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        result.setdefault("additionalProperties", False)
    return result


def complaints(manifest: Object) -> list[str]:
    """Return what the operator's own definition says against an object."""
    path = TOOLS / "prometheus-operator" / f"monitoring.coreos.com_{manifest['kind'].lower()}s.yaml"
    if not path.exists():
        pytest.skip(f"there is no {path}; `make metrics-servers` installs it")
    (version,) = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["versions"]
    spec = strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    validator = jsonschema.Draft202012Validator(spec)
    return [error.message for error in validator.iter_errors(manifest["spec"])]


def test_the_operators_own_definitions_take_all_of_it(with_operator):
    ours = [o for o in with_operator if o["kind"] in OPERATOR]
    assert len(ours) == len(OPERATOR)
    assert [complaints(manifest) for manifest in ours] == [[]] * len(ours)


def test_a_field_that_the_operator_does_not_know_is_found():
    endpoint = {"port": "metrics", "intervall": "15s"}
    wrong = {"kind": "PodMonitor", "spec": {"selector": {}, "podMetricsEndpoints": [endpoint]}}
    assert any("intervall" in text for text in complaints(wrong))


def test_all_the_operator_reads_carries_the_release(with_operator):
    labels = [o["metadata"]["labels"] for o in with_operator if o["kind"] in OPERATOR]
    assert [label["release"] for label in labels] == ["kube-prometheus-stack"] * len(OPERATOR)


def test_another_release_is_one_patch(manifests_copy):
    file = manifests_copy / "components" / "monitoring-operator" / "kustomization.yaml"
    assert file.read_text().count("kube-prometheus-stack") == 2  # a comment, and the label
    folder = manifests_copy / "overlays" / "standalone"
    chosen = yaml.safe_load((folder / "kustomization.yaml").read_text())
    chosen["components"].append("../../components/monitoring-operator")
    patch = [{"op": "replace", "path": "/metadata/labels/release", "value": "mine"}]
    target = {"group": "monitoring.coreos.com"}
    chosen["patches"] = [{"target": target, "patch": yaml.safe_dump(patch)}]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(chosen))
    labels = [o["metadata"]["labels"] for o in build(folder) if o["kind"] in OPERATOR]
    assert {label["release"] for label in labels} == {"mine"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_grafanas_sidecar_finds_the_dashboards(name):
    dashboards = of_kind(overlay(name), "ConfigMap")["liverseg-dashboards"]
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboards["metadata"]["annotations"]["grafana_folder"] == "liverseg"
    assert len(dashboards["data"]) == 4
    assert sum(len(text) for text in dashboards["data"].values()) < 1_000_000


def test_monitoring_can_be_left_out(manifests_copy):
    folder = manifests_copy / "overlays" / "standalone"
    file = folder / "kustomization.yaml"
    file.write_text(file.read_text().replace("  - ../../components/monitoring\n", ""))
    assert "Deployment" not in {o["kind"] for o in build(folder)}

"""Who reaches whom, by the rules of NetworkPolicy; no cluster of the tests enforces them."""

import pytest

from tests.manifests.overlays import (
    OVERLAYS,
    allowed,
    of_kind,
    overlay,
    selects,
    templates,
    trainer,
)

NAMES = {"kube-system:53/UDP", "kube-system:53/TCP", "169.254.20.10/32:53/UDP"} | {
    "169.254.20.10/32:53/TCP"
}
NODE_NAMES = {"172.30.0.1/32:53/UDP", "172.30.0.1/32:53/TCP"}
API_SERVER = {"anywhere:443/TCP", "anywhere:6443/TCP"}
MINIO = {"store:9000/TCP"}
SCRAPED = {"monitoring:9464/TCP"}
KUBEFLOW = {"kubeflow seaweedfs|minio:8333/TCP", "kubeflow seaweedfs|minio:9000/TCP"}
# DNS, the store, the API server.
REACHED = {
    "kubeflow": (NAMES, KUBEFLOW, API_SERVER),
    "standalone": (NAMES, MINIO, API_SERVER),
    "standalone-kueue": (NAMES, MINIO, API_SERVER),
    "test": (NODE_NAMES, {"172.30.0.1/32:9000/TCP"}, {"172.30.0.1/32:6443/TCP"}),
}
TRAINER = trainer()["metadata"]["labels"]
CONTROLLER = {
    "app.kubernetes.io/name": "liverseg",
    "app.kubernetes.io/component": "controller",
}


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_trainer_reaches_the_store_and_dns_and_is_reached_by_prometheus_alone(name):
    dns, store, _ = REACHED[name]
    assert allowed(overlay(name), TRAINER, "egress") == dns | store
    assert allowed(overlay(name), TRAINER, "ingress") == SCRAPED


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_controller_reaches_the_api_server_as_well(name):
    dns, store, api_server = REACHED[name]
    assert allowed(overlay(name), CONTROLLER, "egress") == dns | store | api_server
    assert allowed(overlay(name), CONTROLLER, "ingress") == SCRAPED


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_exporter_reaches_no_more_than_a_trainer(name):
    dns, store, _ = REACHED[name]
    exporter = CONTROLLER | {"app.kubernetes.io/component": "exporter"}
    assert allowed(overlay(name), exporter, "egress") == dns | store
    assert allowed(overlay(name), exporter, "ingress") == SCRAPED


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_pod_of_ours_is_without_a_policy(name):
    for _, template in templates(overlay(name)):
        labels = template["metadata"]["labels"]
        assert allowed(overlay(name), labels, "egress") is not None
        assert allowed(overlay(name), labels, "ingress") is not None


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_policy_selects_somebody(name):
    everybody = [TRAINER, CONTROLLER]
    everybody += [template["metadata"]["labels"] for _, template in templates(overlay(name))]
    for policy in of_kind(overlay(name), "NetworkPolicy").values():
        assert any(selects(policy["spec"]["podSelector"], labels) for labels in everybody)


def test_minio_is_reached_by_those_who_use_it_and_the_keys_are_made_without_it():
    objects = overlay("standalone")
    labels = {what: t["metadata"]["labels"] for what, t in templates(objects)}
    minio = allowed(objects, labels["StatefulSet/liverseg-minio"], "ingress")
    assert minio == {"controller|exporter|trainer|buckets:9000/TCP"}
    assert allowed(objects, labels["StatefulSet/liverseg-minio"], "egress") == NAMES
    assert allowed(objects, labels["Job/liverseg-buckets"], "egress") == NAMES | MINIO
    assert allowed(objects, labels["Job/liverseg-store-keys"], "egress") == NAMES | API_SERVER
    service = of_kind(objects, "Service")["liverseg-minio"]["spec"]["selector"]
    assert selects({"matchLabels": service}, labels["StatefulSet/liverseg-minio"])


def test_pods_of_other_people_in_a_profile_are_not_selected_and_in_our_namespace_cut_off():
    notebook = {"app": "notebook"}
    assert allowed(overlay("kubeflow"), notebook, "egress") is None
    assert allowed(overlay("standalone"), notebook, "egress") == set()
    assert allowed(overlay("standalone"), notebook, "ingress") == set()

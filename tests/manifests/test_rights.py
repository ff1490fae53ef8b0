"""Who may do what: a trainer nothing, the controller what it calls, nobody reads a Secret."""

import pytest

from tests.manifests.overlays import OVERLAYS, build, of_kind, overlay, trainer

# Role -> accounts that have it.
BOUND = {
    "kubeflow": {
        "liverseg-controller": {"liverseg-controller", "default-editor", "pipeline-runner"}
    },
    "standalone": {
        "liverseg-controller": {"liverseg-controller"},
        "liverseg-store-keys": {"liverseg-store-keys"},
    },
    "standalone-kueue": {
        "liverseg-controller": {"liverseg-controller"},
        "liverseg-store-keys": {"liverseg-store-keys"},
    },
    "test": {"liverseg-controller": {"liverseg-controller"}},
}


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_trainers_account_is_there_without_a_token_and_nothing_is_bound_to_it(name):
    service_account = of_kind(overlay(name), "ServiceAccount")[
        trainer()["spec"]["serviceAccountName"]
    ]
    assert service_account["automountServiceAccountToken"] is False
    bound: dict[str, set[str]] = {}
    for binding in of_kind(overlay(name), "RoleBinding").values():
        assert binding["roleRef"]["kind"] == "Role"
        subjects = {subject["name"] for subject in binding["subjects"]}
        bound.setdefault(binding["roleRef"]["name"], set()).update(subjects)
    assert bound == BOUND[name]


@pytest.mark.parametrize("name", OVERLAYS)
def test_nobody_is_bound_in_another_namespace(name):
    for binding in of_kind(overlay(name), "RoleBinding").values():
        for subject in binding["subjects"]:
            assert subject["namespace"] == binding["metadata"]["namespace"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_rule_has_a_wildcard_reads_a_secret_or_changes_a_role(name):
    assert not of_kind(overlay(name), "ClusterRole")
    assert not of_kind(overlay(name), "ClusterRoleBinding")
    for role in of_kind(overlay(name), "Role").values():
        for rule in role["rules"]:
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["create"]
            if rule["apiGroups"] == ["rbac.authorization.k8s.io"]:
                assert rule["verbs"] == ["delete"]
                assert rule["resourceNames"] == ["liverseg-store-keys"]


def test_the_steps_of_another_profile_are_bound_where_its_namespace_is_set(manifests_copy):
    folder = manifests_copy / "overlays" / "kubeflow"
    file = folder / "kustomization.yaml"
    file.write_text(file.read_text().replace("kubeflow-user-example-com", "team-liver"))
    objects = build(folder)
    assert {o["metadata"]["namespace"] for o in objects} == {"team-liver"}
    subjects = of_kind(objects, "RoleBinding")["liverseg-steps"]["subjects"]
    assert {subject["namespace"] for subject in subjects} == {"team-liver"}

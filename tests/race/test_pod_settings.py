"""What a person may choose of trainers' pods, and what is told of a wrong choice."""

import json

import pytest

from liverseg.errors import SettingsError
from liverseg.platform.pod_settings import PodSettings
from liverseg.race.executors.job_manifest import manifest
from liverseg.race.records.job import Job
from tests.race.rehearsal import NONCE


def labels_that_we_set() -> set[str]:
    settings = PodSettings(image="trainer@sha256:1", queue="gpus")
    job = manifest(Job.of("0123456789ab", NONCE, 7, 2, 0, 20_000), "s3://b/s", settings, None)
    return set(job["metadata"]["labels"] | job["spec"]["template"]["metadata"]["labels"])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", 'must be a JSON object such as {"memory": "32Gi"}'),
        ('{"cpu": 4}', "'pods.cpu' must be text in quotes, such as \"4\", not 4"),
        ('{"tolerations": {}}', "'pods.tolerations' must be a list"),
        ('{"memory": "1500MB"}', r"pods.memory \('1500MB'\) is not a valid Kubernetes quantity"),
        ('{"gpu": 1}', r"'pods.gpu' is unknown; known: pods.image, "),
        ('{"gpus": "1"}', "'pods.gpus' must be"),
        ('{"gpus": -1}', "at least 0"),
        ('{"grace_seconds": 0}', "above 0"),
        ('{"node_selector": {"a": 1}}', r"'pods.node_selector.a' must be"),
        ('{"tolerations": [1]}', "must be a table"),
        ("[]", "must be a table of settings"),
        (
            '{"labels": {"liverseg.io/study": "mine"}}',
            r"pods.labels: 'liverseg.io/study' \('mine'\) is set by liverseg itself; leave it out",
        ),
        (
            '{"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}',
            r"'kueue.x-k8s.io/queue-name' \('gpus'\) is set by liverseg itself; give pods.queue",
        ),
        ('{"ca_config_map": {"name": "store-ca"}}', "needs exactly a name and a key, such as"),
        ('{"ca_config_map": {"name": "store-ca", "key": ""}}', "needs exactly a name and a key"),
    ],
)
def test_wrong_pod_settings_are_named(text: str, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        PodSettings.from_json(text)


@pytest.mark.parametrize("label", sorted(labels_that_we_set()))
def test_every_label_that_liverseg_sets_is_refused(label: str) -> None:
    with pytest.raises(SettingsError, match="is set by liverseg itself"):
        PodSettings.from_json(json.dumps({"labels": {label: "x"}}))


def test_labels_of_others_are_taken() -> None:
    labels = {"app.kubernetes.io/part-of": "trial", "team": "liver"}
    assert PodSettings.from_json(json.dumps({"labels": labels})).labels == labels


def test_settings_are_read_from_json() -> None:
    settings = PodSettings.from_json('{"queue": "gpus", "node_selector": {"a": "b"}}')
    assert (settings.queue, settings.node_selector) == ("gpus", {"a": "b"})
    assert PodSettings.from_json("") == PodSettings()

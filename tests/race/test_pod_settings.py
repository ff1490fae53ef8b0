"""What a person may choose of trainers' pods, and what is told of a wrong choice."""

import pytest

from liverseg.errors import SettingsError
from liverseg.race.executors.pod_settings import PodSettings


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", 'not JSON, such as {"memory": "32Gi"}'),
        ('{"cpu": 4}', "'pods.cpu' must be text in quotes, such as \"4\", not 4"),
        ('{"tolerations": {}}', "'pods.tolerations' must be a list"),
        ('{"memory": "1500MB"}', r"pods.memory \('1500MB'\) is no amount"),
        ('{"gpu": 1}', r"'pods.gpu' is unknown; known: pods.image, "),
        ('{"gpus": "1"}', "'pods.gpus' must be"),
        ('{"gpus": -1}', "at least 0"),
        ('{"grace_seconds": 0}', "above 0"),
        ('{"node_selector": {"a": 1}}', r"'pods.node_selector.a' must be"),
        ('{"tolerations": [1]}', "must be a table"),
        ("[]", "must be a table of settings"),
    ],
)
def test_wrong_pod_settings_are_named(text: str, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        PodSettings.from_json(text)


def test_settings_are_read_from_json() -> None:
    found = PodSettings.from_json('{"queue": "gpus", "node_selector": {"a": "b"}}')
    assert (found.queue, found.node_selector) == ("gpus", {"a": "b"})
    assert PodSettings.from_json("") == PodSettings()

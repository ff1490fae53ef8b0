import math

import pytest

from liverseg.errors import SettingsError
from liverseg.settings import PRESETS, from_mapping, to_mapping


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_passes_its_own_rules(name: str) -> None:
    assert from_mapping(to_mapping(PRESETS[name])) == PRESETS[name]


@pytest.mark.parametrize(
    ("topic", "name", "value"),
    [
        ("network", "dropout", 2),
        ("network", "dropout", 1),
        ("network", "features", [16, 0, 64, 128, 256]),
        ("network", "pooling", [[1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 0, 2]]),
        ("network", "batch_norm_momentum", 0),
        ("training", "learning_rate", -1),
        ("training", "learning_rate", math.nan),
        ("training", "learning_rate", 0),
        ("training", "lesion_fraction", 7),
        ("training", "brightness_sd", -1),
        ("training", "flip_probability", 1.5),
        ("training", "contrast", [1.25, 0.75]),
        ("training", "batch_size", 0),
        ("training", "validation_interval", 0),
        ("data", "validation_fraction", -0.1),
        ("data", "test_fraction", 0.95),
        ("preparation", "in_plane_mm", 0),
        ("preparation", "in_plane_mm", math.inf),
        ("preparation", "loss_dilation_mm", -1),
        ("preparation", "lower_percentile", 99),
    ],
)
def test_a_value_that_no_training_could_use_is_refused_by_name(
    topic: str, name: str, value: object
) -> None:
    with pytest.raises(SettingsError, match=rf"{topic}\.{name}"):
        from_mapping({topic: {name: value}})

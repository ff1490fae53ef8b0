import math

import pytest

from liverseg.errors import SettingsError
from liverseg.settings import (
    BASELINE_SEED,
    PREPARATION_VERSION,
    PRESETS,
    TRAINING_VERSION,
    Settings,
    differing,
    from_mapping,
    to_mapping,
)

DEFAULTS_OF_VERSION_1 = {
    "preparation.in_plane_mm": 1.0,
    "preparation.interpolation": "linear",
    "preparation.lower_percentile": 2.0,
    "preparation.upper_percentile": 98.0,
    "preparation.loss_dilation_mm": 10.0,
    "network.features": [16, 32, 64, 128, 256],
    "network.z_convolutions": [False, False, True, True, True],
    "network.pooling": [[1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2]],
    "network.dropout": 0.25,
    "network.batch_norm_momentum": 0.01,
    "network.batch_norm_epsilon": 0.001,
    "training.patch": [72, 236, 236],
    "training.batch_size": 2,
    "training.learning_rate": 0.001,
    "training.lesion_fraction": 0.9,
    "training.dice_smoothing": 1e-05,
    "training.flip_probability": 0.5,
    "training.contrast": [0.75, 1.25],
    "training.brightness_sd": 0.25,
    "training.validation_interval": 500,
    "training.threads": 1,
    "race.seeds": 16,
    "race.minimum_iterations": 5000,
    "race.maximum_iterations": 80000,
    "race.eta": 2,
    "race.rung_metric": "best",
    "data.training_rater": "R1",
    "data.refused_cases": "stop",
    "data.validation_fraction": 0.06,
    "data.test_fraction": 0.23,
}


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
        ("data", "lesion_labels", [0]),
        ("data", "liver_labels", [1, -1]),
        ("plausibility", "liver_ml", [-1, 6000]),
        ("plausibility", "liver_ml", [6000, 300]),
        ("plausibility", "liver_ml", [300, math.inf]),
        ("plausibility", "smallest_liver_ml", math.nan),
        ("plausibility", "lesion_share", 1.1),
        ("plausibility", "outside_share", -0.1),
        ("plausibility", "spacing_factor", 0.9),
        ("plausibility", "validation_patients", -1),
        ("preparation", "slice_axis", "w"),
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


def test_the_defaults_of_this_version_stay_as_they_are() -> None:
    """Raise TRAINING_VERSION (for preparation.* PREPARATION_VERSION) when a value has to change.

    Ids leave defaults out: with another default and the same version, two studies that train
    differently would have one id. A new setting is no change and needs no line here.
    """
    now = {
        f"{topic}.{name}": value
        for topic, values in to_mapping(Settings()).items()
        if topic != "preset"
        for name, value in values.items()
    }
    assert {name: now.get(name) for name in DEFAULTS_OF_VERSION_1} == DEFAULTS_OF_VERSION_1
    assert (TRAINING_VERSION, PREPARATION_VERSION) == (1, 1)


def test_the_seed_of_the_baseline_is_the_one_that_stores_and_job_names_have() -> None:
    assert BASELINE_SEED == 9999


def test_what_differs_is_what_has_another_value_or_no_default() -> None:
    defaults = {"a": {"x": 1, "y": [1, 2]}, "b": {"z": True}}
    assert differing(defaults, defaults) == {}
    assert differing({"a": {"x": 1}}, defaults) == {}
    values = {"a": {"x": 2, "y": [1, 2], "new": 0}, "b": {"z": True}}
    assert differing(values, defaults) == {"a": {"x": 2, "new": 0}}

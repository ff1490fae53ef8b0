"""Every setting that changes a result, by topic; what only changes speed is an argument.

What differs from the defaults is hashed into the study's id, so nothing here may depend on a
machine. A new setting whose default keeps everything as it was leaves all ids as they were.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from liverseg.errors import SettingsError

# Raised when the same settings and data would give other weights, and when a default changes, since
# ids leave defaults out; tests pin the losses of a 20-iteration training and the defaults.
TRAINING_VERSION = 1
# Raised when the same files would be prepared differently, and when a default of the preparation
# changes; part of every case's key.
PREPARATION_VERSION = 1

# Raised when the same weights would give other predictions or segmentations.
PREDICTION_VERSION = 1

# The seed of the baseline (docs/method.md section 10); no race uses it.
BASELINE_SEED = 9999

# No part of a study's id: a name, and bounds that decide only which cases a data set has, whose
# digest is a part of the id.
NOT_IN_IDS = ("preset", "plausibility")

SliceAxis = Literal["auto", "z", "y", "x"]


@dataclass(frozen=True)
class PreparationSettings:
    """How a case is brought to the network's grid (docs/method.md section 3)."""

    in_plane_mm: float = 1.0
    """Voxel size within a slice after resampling; slices keep their spacing."""
    interpolation: Literal["linear", "bspline"] = "linear"
    """In-plane interpolation of the image; masks are resampled as probabilities."""
    lower_percentile: float = 2.0
    """Grey value inside the liver that becomes 0."""
    upper_percentile: float = 98.0
    """Grey value inside the liver that becomes 1; values beyond are not clipped."""
    loss_dilation_mm: float = 10.0
    """The loss is computed inside the liver dilated in-plane by this much."""
    slice_axis: SliceAxis = "auto"
    """Axis of the patient (x to the left, y to the back, z to the head) that slices follow, which
    becomes the first of an array; auto: z, and a case whose coarsest axis is another is refused."""

    @property
    def changed(self) -> dict[str, Any]:
        """What differs from the defaults; this is part of case keys and of a dataset's digest."""
        return differing(dataclasses.asdict(self), dataclasses.asdict(PreparationSettings()))


@dataclass(frozen=True)
class NetworkSettings:
    """The anisotropic U-Net of figure 1; axes are (z, y, x)."""

    features: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Channels per level, finest first."""
    z_convolutions: tuple[bool, ...] = (False, False, True, True, True)
    """Levels whose 3x3x1 convolutions are followed by 1x1x3 ones."""
    pooling: tuple[tuple[int, int, int], ...] = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    """Max pooling (z, y, x) below each level but the last."""
    dropout: float = 0.25
    """Spatial dropout after each concatenation."""
    batch_norm_momentum: float = 0.01
    """In torch's sense: the weight of the new batch. Keras' default 0.99 is 0.01 here."""
    batch_norm_epsilon: float = 1e-3
    """Keras' default."""


@dataclass(frozen=True)
class TrainingSettings:
    """One training (docs/method.md sections 5 to 8)."""

    patch: tuple[int, int, int] = (72, 236, 236)
    """Input patch (z, y, x) in voxels; must be a valid size of the network."""
    batch_size: int = 2
    """Patches per iteration."""
    learning_rate: float = 1e-3
    """Adam's."""
    lesion_fraction: float = 0.9
    """Share of patches with a lesion voxel in the output window; the others have a liver voxel."""
    dice_smoothing: float = 1e-5
    """Added to numerator and denominator of the Dice loss."""
    flip_probability: float = 0.5
    """Chance of a flip, for each axis."""
    contrast: tuple[float, float] = (0.75, 1.25)
    """Range of the factor about the patch's mean."""
    brightness_sd: float = 0.25
    """Standard deviation of the offset."""
    validation_interval: int = 500
    """Iterations between two validations; each writes a checkpoint."""
    threads: int = 1
    """CPU threads of a trainer. Part of the study, since sums round differently with another."""


@dataclass(frozen=True)
class RaceSettings:
    """The multi-model schedule (docs/method.md section 9)."""

    seeds: int = 16
    """Trainings at the start; they differ only in their seed, 0 to seeds - 1."""
    minimum_iterations: int = 5_000
    """Iterations at the first rung."""
    maximum_iterations: int = 80_000
    """Iterations at the last."""
    eta: int = 2
    """One in eta is promoted."""
    rung_metric: Literal["best", "last"] = "best"
    """Rank by the best validation Jaccard so far, or by the one at the rung."""


@dataclass(frozen=True)
class DataSettings:
    """Which contours teach, and what happens to a case that cannot be used."""

    training_rater: str = "R1"
    """The rater whose contours train, validate and fit the threshold baseline."""
    refused_cases: Literal["stop", "exclude"] = "stop"
    """Stop when a case is refused, or continue without it."""
    validation_fraction: float = 0.06
    """Share of patients that validate where there is no split file (5 of 82 in the paper)."""
    test_fraction: float = 0.23
    """Share of patients that test where there is no split file (19 of 82 in the paper)."""
    lesion_labels: tuple[int, ...] = ()
    """Labels that count as lesion in the raters' files; if empty, a file may have only one."""
    liver_labels: tuple[int, ...] = ()
    """Labels that count as liver, including those of lesions inside it; if empty, as above."""

    @property
    def labels(self) -> dict[str, tuple[int, ...]]:
        """Which labels count, sorted, by "lesion" and "liver"; only what is set."""
        chosen = {"lesion": self.lesion_labels, "liver": self.liver_labels}
        return {kind: tuple(sorted(set(labels))) for kind, labels in chosen.items() if labels}


@dataclass(frozen=True)
class PlausibilitySettings:
    """Bounds of what a case may look like (docs/method.md section 2); no part of any id."""

    liver_ml: tuple[float, float] = (300.0, 6000.0)
    """A liver mask outside these volumes is warned of."""
    smallest_liver_ml: float = 20.0
    """A liver mask below this volume is refused."""
    lesion_share: float = 0.9
    """A rater whose lesions fill more of the liver than this is refused."""
    outside_share: float = 0.2
    """More than this share of a rater's lesion voxels outside the liver is warned of; all of them
    are refused."""
    spacing_factor: float = 1.5
    """An image to validate, test or predict whose spacing is outside the training cases' range by
    more than this factor is warned of."""
    validation_patients: int = 5
    """Fewer patients that validate, where there is no split file, are warned of."""


@dataclass(frozen=True)
class Settings:
    """One study's settings; `preset` only says where they started from."""

    preset: str = "paper"
    preparation: PreparationSettings = field(default_factory=PreparationSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    race: RaceSettings = field(default_factory=RaceSettings)
    data: DataSettings = field(default_factory=DataSettings)
    plausibility: PlausibilitySettings = field(default_factory=PlausibilitySettings)


PRESETS: dict[str, Settings] = {
    "paper": Settings(),
    # Chosen on the two validation cases of docs/liver-mri.split.json: a sixtieth of the paper's
    # network, and what sixteen seeds of it can do in an hour on two cores.
    "small": Settings(
        preset="small",
        network=NetworkSettings(
            features=(8, 16, 32),
            z_convolutions=(False, True, True),
            pooling=((1, 2, 2), (1, 2, 2)),
            batch_norm_momentum=0.05,
        ),
        training=TrainingSettings(patch=(20, 92, 92), validation_interval=50),
        race=RaceSettings(minimum_iterations=150, maximum_iterations=2_400),
    ),
    "demo": Settings(
        preset="demo",
        network=NetworkSettings(
            features=(8, 16, 32),
            z_convolutions=(False, False, True),
            pooling=((1, 2, 2), (1, 2, 2)),
            batch_norm_momentum=0.1,
        ),
        training=TrainingSettings(patch=(12, 76, 76), validation_interval=40),
        race=RaceSettings(minimum_iterations=40, maximum_iterations=640),
        data=DataSettings(validation_fraction=0.2, test_fraction=0.25),
        # The synthetic livers are miniatures of 140 to 180 ml.
        plausibility=PlausibilitySettings(liver_ml=(100.0, 6000.0)),
    ),
}


def preset(name: str) -> Settings:
    """Return the named preset; an unknown name raises SettingsError with the known ones."""
    if name not in PRESETS:
        raise SettingsError(f"preset '{name}' is unknown; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def from_mapping(values: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """Overlay nested `values`, such as {"race": {"seeds": 4}}, on `base` (default: paper).

    An unknown key raises SettingsError with the known ones, a wrong type with both types.
    """
    start = base or Settings()
    unknown = set(values) - {f.name for f in dataclasses.fields(Settings)}
    if unknown:
        raise SettingsError(_unknown(sorted(unknown)[0], "", Settings))
    changed: dict[str, Any] = {}
    for name, value in values.items():
        changed[name] = value if name == "preset" else overlay(getattr(start, name), value, name)
    return _checked(dataclasses.replace(start, **changed))


def to_mapping(settings: Settings) -> dict[str, Any]:
    """Return the settings as nested plain values, ready for JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings)))
    return plain


def differing(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of nested plain values differs from the defaults.

    A name that only the defaults have is no difference: the record is older than the setting.
    """
    changed: dict[str, Any] = {}
    for name, value in values.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            if inner := differing(value, default):
                changed[name] = inner
        elif name not in defaults or value != default:
            changed[name] = value
    return changed


def digest(values: object) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of `values`."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def overlay(topic: Any, values: object, path: str) -> Any:
    """Return the dataclass `topic` with fields replaced, checked; `path` is for messages."""
    if not isinstance(values, Mapping):
        raise SettingsError(f"setting '{path}' must be a table of settings, not {values!r}")
    hints = typing.get_type_hints(type(topic))
    changed = {}
    for name, value in values.items():
        if name not in hints:
            raise SettingsError(_unknown(name, path + ".", type(topic)))
        changed[name] = _converted(value, hints[name], f"{path}.{name}")
    return dataclasses.replace(topic, **changed)


def _unknown(name: str, prefix: str, topic: type) -> str:
    known = ", ".join(prefix + f.name for f in dataclasses.fields(topic))
    return f"setting '{prefix}{name}' is unknown; known: {known}"


def _converted(value: Any, hint: Any, path: str) -> Any:
    """Return `value` as the annotated type, or raise SettingsError with both."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list | tuple):
        variable = len(arguments) == 2 and isinstance(arguments[1], types.EllipsisType)
        if not variable and len(value) != len(arguments):
            raise SettingsError(f"setting '{path}' needs {len(arguments)} values, not {value!r}")
        inner = [arguments[0]] * len(value) if variable else list(arguments)
        return tuple(_converted(v, h, path) for v, h in zip(value, inner, strict=True))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise SettingsError(f"setting '{path}' must be a table, not {value!r}")
        return {key: _converted(v, arguments[1], f"{path}.{key}") for key, v in value.items()}
    if hint is Any:
        return value
    if origin is Literal:
        if value not in arguments:
            raise SettingsError(f"setting '{path}' must be one of {arguments}, not {value!r}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # JSON from a KFP parameter brings whole numbers back as floats.
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if origin is tuple or not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        kind = _KINDS.get(origin or hint, str(hint))
        raise SettingsError(f"setting '{path}' must be {kind}, not {value!r}")
    return value


_KINDS = {
    str: 'text in quotes, such as "4"',
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
}


def _checked(settings: Settings) -> Settings:
    """Refuse values that no training could use."""
    race, network, preparation = settings.race, settings.network, settings.preparation
    training, data, plausibility = settings.training, settings.data, settings.plausibility
    infinity = float("inf")
    # From the first to the second, both included; every number of a tuple.
    network_ranges = {
        "features": (1, 4096),
        "pooling": (1, 16),
        "dropout": (0, 0.999),
        "batch_norm_momentum": (1e-9, 1),
        "batch_norm_epsilon": (1e-12, 1),
    }
    training_ranges = {
        "patch": (1, 4096),
        "batch_size": (1, 4096),
        "learning_rate": (1e-12, 10),
        "lesion_fraction": (0, 1),
        "dice_smoothing": (0, infinity),
        "flip_probability": (0, 1),
        "contrast": (0, 100),
        "brightness_sd": (0, 100),
        "validation_interval": (1, infinity),
        "threads": (1, 4096),
    }
    data_ranges = {
        "validation_fraction": (0, 1),
        "test_fraction": (0, 1),
        "lesion_labels": (1, 2**24),  # float32 has every whole number up to it
        "liver_labels": (1, 2**24),
    }
    plausibility_ranges = {
        "liver_ml": (0, 1e6),
        "smallest_liver_ml": (0, 1e6),
        "lesion_share": (0, 1),
        "outside_share": (0, 1),
        "spacing_factor": (1, 1000),
        "validation_patients": (0, 1_000_000),
    }
    rules = [
        (race.seeds >= 1, f"race.seeds ({race.seeds}) must be at least 1"),
        (race.seeds <= BASELINE_SEED, f"race.seeds ({race.seeds}) must be <= {BASELINE_SEED}"),
        (race.eta >= 2, f"race.eta ({race.eta}) must be at least 2"),
        (
            1 <= race.minimum_iterations <= race.maximum_iterations,
            f"race.minimum_iterations ({race.minimum_iterations}) must be between 1 and "
            f"race.maximum_iterations ({race.maximum_iterations})",
        ),
        (
            len(network.features) == len(network.z_convolutions) == len(network.pooling) + 1,
            f"network.features ({len(network.features)}) and network.z_convolutions "
            f"({len(network.z_convolutions)}) need one entry a level, network.pooling "
            f"({len(network.pooling)}) one fewer",
        ),
        *_within("network", network, network_ranges),
        *_within("training", training, training_ranges),
        *_within("data", data, data_ranges),
        *_within("plausibility", plausibility, plausibility_ranges),
        (
            plausibility.liver_ml[0] <= plausibility.liver_ml[1],
            f"plausibility.liver_ml {plausibility.liver_ml} must be from the smaller to the larger "
            "volume",
        ),
        (
            training.contrast[0] <= training.contrast[1],
            f"training.contrast {training.contrast} must be from the lower to the higher factor",
        ),
        (
            data.validation_fraction + data.test_fraction < 1,
            f"data.validation_fraction ({data.validation_fraction}) and data.test_fraction "
            f"({data.test_fraction}) must leave some cases to train",
        ),
        (0 < preparation.in_plane_mm < 100, "preparation.in_plane_mm must be from 0 to 100 mm"),
        (preparation.loss_dilation_mm >= 0, "preparation.loss_dilation_mm must be at least 0"),
        (
            0 <= preparation.lower_percentile < preparation.upper_percentile <= 100,
            f"preparation.lower_percentile ({preparation.lower_percentile}) must be below "
            f"preparation.upper_percentile ({preparation.upper_percentile}), both in 0..100",
        ),
    ]
    for holds, message in rules:
        if not holds:
            raise SettingsError(message)
    return settings


def _within(
    topic: str, settings: Any, ranges: Mapping[str, tuple[float, float]]
) -> list[tuple[bool, str]]:
    """Return a rule for every setting; NaN is in no range."""
    return [
        (
            all(low <= number <= high for number in _numbers(getattr(settings, name))),
            f"{topic}.{name} ({getattr(settings, name)}) must be from {low:g} to {high:g}",
        )
        for name, (low, high) in ranges.items()
    ]


def _numbers(value: Any) -> list[float]:
    return [n for v in value for n in _numbers(v)] if isinstance(value, tuple) else [value]

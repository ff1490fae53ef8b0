"""Every setting that changes a result, by topic; what only changes speed is an argument.

What differs from the defaults is hashed into the study's id, so nothing here may depend on a
machine. A new setting whose default keeps everything as it was leaves all ids as they were.
"""

from liverseg.settings.data import DataSettings
from liverseg.settings.decoding import overlay
from liverseg.settings.identity import (
    NOT_IN_IDS,
    PREDICTION_VERSION,
    PREPARATION_VERSION,
    TRAINING_VERSION,
    differing,
    digest,
)
from liverseg.settings.network import NetworkSettings
from liverseg.settings.plausibility import PlausibilitySettings
from liverseg.settings.preparation import PreparationSettings, SliceAxis
from liverseg.settings.presets import PRESETS, preset
from liverseg.settings.race import BASELINE_SEED, RaceSettings
from liverseg.settings.study import Settings, from_mapping, to_mapping
from liverseg.settings.training import TrainingSettings

__all__ = [
    "BASELINE_SEED",
    "NOT_IN_IDS",
    "PREDICTION_VERSION",
    "PREPARATION_VERSION",
    "PRESETS",
    "TRAINING_VERSION",
    "DataSettings",
    "NetworkSettings",
    "PlausibilitySettings",
    "PreparationSettings",
    "RaceSettings",
    "Settings",
    "SliceAxis",
    "TrainingSettings",
    "differing",
    "digest",
    "from_mapping",
    "overlay",
    "preset",
    "to_mapping",
]

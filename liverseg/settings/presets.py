"""The presets: where a study's settings start from."""

from liverseg.errors import SettingsError
from liverseg.settings.data import DataSettings
from liverseg.settings.network import NetworkSettings
from liverseg.settings.plausibility import PlausibilitySettings
from liverseg.settings.race import RaceSettings
from liverseg.settings.study import Settings
from liverseg.settings.training import TrainingSettings

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

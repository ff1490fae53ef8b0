"""All settings of a study, from and to nested plain values."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from liverseg.errors import SettingsError
from liverseg.settings.data import DataSettings
from liverseg.settings.decoding import overlay, unknown_name
from liverseg.settings.network import NetworkSettings
from liverseg.settings.plausibility import PlausibilitySettings
from liverseg.settings.preparation import PreparationSettings
from liverseg.settings.race import RaceSettings
from liverseg.settings.rules import Rule
from liverseg.settings.training import TrainingSettings


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

    def rules(self) -> list[Rule]:
        """Return the rules of all topics, in the order in which they are checked."""
        return [
            *self.race.rules(),
            *self.network.rules(),
            *self.training.rules(),
            *self.data.rules(),
            *self.plausibility.rules(),
            *self.preparation.rules(),
        ]


def from_mapping(values: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """Overlay nested `values`, such as {"race": {"seeds": 4}}, on `base` (default: paper).

    An unknown key raises SettingsError with the known ones, a wrong type with both types.
    """
    start = base or Settings()
    unknown = set(values) - {f.name for f in dataclasses.fields(Settings)}
    if unknown:
        raise SettingsError(unknown_name(sorted(unknown)[0], "", Settings))
    changed: dict[str, Any] = {}
    for name, value in values.items():
        changed[name] = value if name == "preset" else overlay(getattr(start, name), value, name)
    return _checked(dataclasses.replace(start, **changed))


def to_mapping(settings: Settings) -> dict[str, Any]:
    """Return the settings as nested plain values, ready for JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings)))
    return plain


def _checked(settings: Settings) -> Settings:
    """Refuse values that no training could use."""
    for holds, message in settings.rules():
        if not holds:
            raise SettingsError(message)
    return settings

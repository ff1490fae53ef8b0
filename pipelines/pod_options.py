"""Values of a pod's spec, as options of the command line write them; pure."""

import re
from dataclasses import dataclass

from liverseg.errors import SettingsError

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
CA_KEY = "ca.crt"
# What kfp takes: less than Kubernetes does, and in a ValueError of its own.
_CPU = re.compile(r"(\d*\.)?\d+m?")
_MEMORY = re.compile(r"\d+([EPTGMK]i?)?")


@dataclass(frozen=True)
class Toleration:
    """A taint that the pods tolerate; an empty value means any, an empty effect means all."""

    key: str
    value: str = ""
    effect: str = ""

    def manifest(self) -> dict[str, str]:
        """Return it as Kubernetes writes it (core/v1 Toleration)."""
        operator = (
            {"operator": "Equal", "value": self.value} if self.value else {"operator": "Exists"}
        )
        return {"key": self.key, **operator, **({"effect": self.effect} if self.effect else {})}


@dataclass(frozen=True)
class ConfigMapKey:
    """A key of a ConfigMap in the run's namespace."""

    name: str
    key: str


@dataclass(frozen=True)
class Resources:
    """What a task's pod requests; its memory is also its limit.

    Args:
        cpu: Cores, such as 2 or 500m.
        memory: Bytes, such as 4Gi.
    """

    cpu: str
    memory: str

    def __post_init__(self) -> None:
        if not _CPU.fullmatch(self.cpu):
            raise SettingsError(f"cpu '{self.cpu}': write a number of cores, such as 2 or 500m")
        if not _MEMORY.fullmatch(self.memory):
            raise SettingsError(
                f"memory '{self.memory}': write a whole number and a unit, such as 1500Mi or 4Gi"
            )


def parse_toleration(text: str) -> Toleration:
    """Return KEY[=VALUE][:EFFECT]; raises SettingsError."""
    rest, colon, effect = text.partition(":")
    key, _, value = rest.partition("=")
    if not key or (colon and effect not in EFFECTS):
        known = ", ".join(EFFECTS)
        raise SettingsError(f"toleration '{text}': write KEY[=VALUE][:EFFECT], EFFECT is {known}")
    return Toleration(key, value, effect)


def parse_node_selector(text: str) -> tuple[str, str]:
    """Return LABEL=VALUE; raises SettingsError."""
    label, equals, value = text.partition("=")
    if not label or not equals:
        raise SettingsError(f"node selector '{text}': write LABEL=VALUE")
    return label, value


def parse_config_map_key(text: str) -> ConfigMapKey:
    """Return NAME[:KEY]; raises SettingsError."""
    name, colon, key = text.partition(":")
    if not name or (colon and not key):
        raise SettingsError(f"ConfigMap '{text}': write NAME[:KEY]; without KEY it is {CA_KEY}")
    return ConfigMapKey(name, key or CA_KEY)

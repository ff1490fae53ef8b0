"""What an id or a key is hashed from, and the versions that are a part of it."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

# Raised when the same settings and data would give other weights, and when a default changes, since
# ids leave defaults out; tests pin the losses of a 20-iteration training and the defaults.
TRAINING_VERSION = 1
# Raised when the same files would be prepared differently, and when a default of the preparation
# changes; part of every case's key.
PREPARATION_VERSION = 1

# Raised when the same weights would give other predictions or segmentations.
PREDICTION_VERSION = 1

# No part of a study's id: a name, and bounds that decide only which cases a data set has, whose
# digest is a part of the id.
NOT_IN_IDS = ("preset", "plausibility")


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

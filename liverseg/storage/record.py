"""A record: one JSON object under one key, the same bytes for the same values."""

import json
import math
from collections.abc import Mapping
from typing import Any

from liverseg.errors import IntegrityError
from liverseg.storage.port import ObjectStore


def encode(values: Mapping[str, Any]) -> bytes:
    """Return JSON with sorted keys and an indent of 1; NaN and infinity become null."""
    text = json.dumps(_finite(values), sort_keys=True, indent=1, allow_nan=False)
    return text.encode() + b"\n"


def decode(data: bytes, key: str) -> dict[str, Any]:
    """Return the object in `data`; anything else raises IntegrityError naming `key`."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise IntegrityError(f"'{key}' is damaged: it is not JSON ({exc})") from exc
    if not isinstance(values, dict):
        raise IntegrityError(f"'{key}' is damaged: it holds {type(values).__name__}, not an object")
    return values


def read(store: ObjectStore, key: str) -> dict[str, Any]:
    """Return the record under `key`; raises NotFound."""
    return decode(store.get(key), key)


def write(store: ObjectStore, key: str, values: Mapping[str, Any]) -> None:
    """Write or replace the record under `key`."""
    store.put(key, encode(values))


def write_new(store: ObjectStore, key: str, values: Mapping[str, Any]) -> bool:
    """Write the record unless the key exists; return whether it was written."""
    return store.put_new(key, encode(values))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value

"""A record: one JSON object under one key, the same bytes for the same values.

Whoever reads one names the dataclass that it is. Types and bounds of the fields are annotations,
and msgspec compares what was read with these: a record is either what it should be, or an
IntegrityError. Entries that a dataclass does not know are ignored.
"""

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, overload

import msgspec
from msgspec import Meta

from liverseg.errors import IntegrityError, NotFound
from liverseg.storage.port import ObjectStore

Kind = TypeVar("Kind")

# Above 2**53 a whole number is no longer exact in other readers of JSON.
Count = Annotated[int, Meta(ge=0, lt=2**53)]
Time = Annotated[float, Meta(ge=0, lt=2**53)]
"""Unix time in seconds."""
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]

# A SHA-256 in quotation marks is shown whole.
_SHOWN_CHARACTERS = 66


def encode(values: Mapping[str, Any]) -> bytes:
    """Return JSON with sorted keys and an indent of 1; NaN and infinity become null."""
    text = json.dumps(_finite(values), sort_keys=True, indent=1, allow_nan=False)
    return text.encode() + b"\n"


@overload
def decode(data: bytes, key: str) -> dict[str, Any]: ...
@overload
def decode(data: bytes, key: str, kind: type[Kind]) -> Kind: ...
def decode(data: bytes, key: str, kind: Any = dict[str, Any]) -> Any:
    """Return the `kind`, a dataclass, that `data` holds; without `kind` any JSON object.

    Raises IntegrityError with the key, the field, its value and what was expected.
    """
    try:
        return _decoder(kind).decode(data)
    except (ValueError, RecursionError) as error:
        try:
            reason = _reason(json.loads(data), str(error))
        except (ValueError, RecursionError):
            reason = f"it is not JSON ({error})"
        raise IntegrityError(f"'{key}' is damaged: {reason}") from error


def from_name(values: Mapping[str, str | None], key: str, kind: type[Kind]) -> Kind:
    """Return the `kind` whose fields, as text, the name of a key holds; raises as `decode`."""
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        reason = _reason(dict(values), str(error))
        raise IntegrityError(f"'{key}' is damaged: in its name, {reason}") from error


@overload
def read(store: ObjectStore, key: str) -> dict[str, Any]: ...
@overload
def read(store: ObjectStore, key: str, kind: type[Kind]) -> Kind: ...
def read(store: ObjectStore, key: str, kind: Any = dict[str, Any]) -> Any:
    """Return the record under `key`, see `decode`; raises NotFound."""
    return decode(store.get(key), key, kind)


def find(store: ObjectStore, key: str, kind: type[Kind]) -> Kind | None:
    """As `read`, but None where nothing is under `key`."""
    try:
        return read(store, key, kind)
    except NotFound:
        return None


def write(store: ObjectStore, key: str, values: Mapping[str, Any]) -> None:
    """Write or replace the record under `key`."""
    store.put(key, encode(values))


def write_new(store: ObjectStore, key: str, values: Mapping[str, Any]) -> bool:
    """Write the record unless the key exists; return whether it was written."""
    return store.put_new(key, encode(values))


def shown(value: object) -> str:
    """Return a value as messages quote it: on one line, and not all of a long one."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _reason(value: Any, message: str) -> str:
    """Return what is wrong; `message` is msgspec's, such as "Expected `int` >= 0 - at `$.seed`"."""
    expected, _, path = message.partition(" - at `$")
    expected = expected[0].lower() + expected[1:]
    # Of a mapping msgspec does not name the entry: all of the mapping is shown.
    path = path.rstrip("`").partition("[...]")[0].removeprefix(".")
    for step in re.findall(r"\w+", path):
        value = value[int(step) if isinstance(value, list) else step]
    return f"field '{path}' is {shown(value)}, {expected}" if path else expected


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value

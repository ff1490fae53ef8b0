"""Settings from plain values, as JSON and the command line have them: names and types."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from liverseg.errors import SettingsError

_KINDS = {
    str: 'text in quotes, such as "4"',
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
}


def overlay(topic: Any, values: object, path: str) -> Any:
    """Return the dataclass `topic` with fields replaced, checked; `path` is for messages."""
    if not isinstance(values, Mapping):
        raise SettingsError(f"setting '{path}' must be a table of settings, not {values!r}")
    hints = typing.get_type_hints(type(topic))
    changed = {}
    for name, value in values.items():
        if name not in hints:
            raise SettingsError(unknown_name(name, path + ".", type(topic)))
        changed[name] = _converted(value, hints[name], f"{path}.{name}")
    return dataclasses.replace(topic, **changed)


def unknown_name(name: str, prefix: str, topic: type) -> str:
    """Return the message for a name that `topic` does not have."""
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

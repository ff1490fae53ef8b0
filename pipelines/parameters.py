"""The values of a run's parameters, from text; pure."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from liverseg.errors import SettingsError


def _number(text: str) -> float:
    value = float(text)
    # JSON has no other numbers.
    if not math.isfinite(value):
        raise ValueError
    return value


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _json(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = json.loads(text)
        if not isinstance(value, kind):
            raise ValueError
        return value

    return read


# By the parameterType of KFP's IR: how it is read, and what an error calls it.
_KINDS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "STRING": (str, "a text"),
    "NUMBER_INTEGER": (int, "a whole number"),
    "NUMBER_DOUBLE": (_number, "a number"),
    "BOOLEAN": (_boolean, "true or false"),
    "LIST": (_json(list), "a JSON list"),
    "STRUCT": (_json(dict), "a JSON object"),
}


def parse(
    definitions: Mapping[str, Mapping[str, Any]], assignments: Iterable[str]
) -> dict[str, Any]:
    """Return the values that NAME=VALUE texts give, each of the type of its definition.

    Args:
        definitions: inputDefinitions.parameters of the compiled pipeline.
        assignments: What was given; every parameter without a default has to be among them.

    Raises SettingsError, naming every parameter there is, its type or the one that is missing.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--param '{assignment}': write NAME=VALUE")
        if name not in definitions:
            known = ", ".join(definitions)
            raise SettingsError(f"the pipeline has no parameter '{name}'; it has {known}")
        if name in values:
            raise SettingsError(f"parameter '{name}' is given twice")
        read, kind = _KINDS[definitions[name]["parameterType"]]
        try:
            values[name] = read(text)
        except (ValueError, KeyError) as error:
            raise SettingsError(f"parameter '{name}' must be {kind}, not '{text}'") from error
    missing = [n for n, d in definitions.items() if not d.get("isOptional") and n not in values]
    if missing:
        raise SettingsError(f"no value for {', '.join(missing)}; give --param {missing[0]}=...")
    return values


def check_cron(cron: str) -> None:
    """Raise SettingsError unless there are six fields, as KFP wants; it checks what they say."""
    fields = len(cron.split())
    if fields != 6:
        raise SettingsError(
            f"cron '{cron}' has {fields} fields; KFP wants six, of which the first are the "
            "seconds: '0 0 2 * * *' is two o'clock in every night"
        )

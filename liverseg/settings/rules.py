"""Rules of values: what has to hold, and what is said where it does not."""

from collections.abc import Mapping
from typing import Any

Rule = tuple[bool, str]
"""Whether it holds, and the message if not."""


def within(topic: str, settings: Any, ranges: Mapping[str, tuple[float, float]]) -> list[Rule]:
    """Return a rule for every setting: all numbers of a tuple lie in its range, ends included.

    NaN is in no range.
    """
    return [
        (
            all(low <= number <= high for number in _numbers(getattr(settings, name))),
            f"{topic}.{name} ({getattr(settings, name)}) must be from {low:g} to {high:g}",
        )
        for name, (low, high) in ranges.items()
    ]


def _numbers(value: Any) -> list[float]:
    return [n for v in value for n in _numbers(v)] if isinstance(value, tuple) else [value]

"""What a controller concludes: failures, promotions, decisions. Written once, never taken back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from liverseg.core.race.ledger import RungName
from liverseg.race.records.facts import Fact


@dataclass(frozen=True)
class Failure(Fact):
    """An attempt ended without a report."""

    seed: int
    rung: RungName
    attempt: int
    exit_code: int | None
    """None: not known; negative: killed by that signal."""
    reason: str
    kind: Literal["infrastructure", "model", "straggler"]
    """A model failure is final, the others are followed by another attempt; a straggler is ended
    because its node is slow, which says nothing of the seed."""
    iteration: int = 0
    """The furthest iteration that any attempt of this seed had recorded by then."""
    generation: int = 0
    """Of the controller that saw it; attempts are counted anew when a person starts again."""


@dataclass(frozen=True)
class Input:
    """One seed as a promotion or decision saw it; a failed seed has only its number."""

    seed: int
    attempt: int | None
    jaccard: float | None
    sha256: str | None
    """Of the report's bytes."""


@dataclass(frozen=True)
class Promotion(Fact):
    """A seed that goes on whatever the others of its rung will report."""

    rung: int
    seed: int
    inputs: tuple[Input, ...]
    """The reports and final failures it rests on."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the promotion that `to_mapping` wrote."""
        return super().from_mapping({**values, "inputs": _inputs(values)})


@dataclass(frozen=True)
class Decision(Fact):
    """A rung is over. `promoted` is sorted best first; at the last rung it is the winner."""

    rung: int
    iterations: int
    inputs: tuple[Input, ...]
    promoted: tuple[int, ...]
    pruned: tuple[int, ...]

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the decision that `to_mapping` wrote."""
        seeds = {name: tuple(values[name]) for name in ("promoted", "pruned")}
        return super().from_mapping({**values, **seeds, "inputs": _inputs(values)})


def _inputs(values: Mapping[str, Any]) -> tuple[Input, ...]:
    return tuple(Input(**entry) for entry in values["inputs"])

"""What a controller concludes: failures, promotions, decisions. Written once, never taken back."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from liverseg.race.records.facts import AnyRung, Fact, Jaccard, Seed
from liverseg.race.records.key_forms import DECISION, FAILURE, PROMOTION
from liverseg.storage.record import Count, Sha256

ProcessExitCode = Annotated[int, Meta(ge=-255, le=255)]


@dataclass(frozen=True)
class Failure(Fact):
    """An attempt ended without a report."""

    form: ClassVar[str] = FAILURE
    seed: Seed
    rung: AnyRung
    attempt: Count
    exit_code: ProcessExitCode | None
    """None: not known; negative: killed by that signal."""
    reason: str
    kind: Literal["infrastructure", "model", "stalled", "straggler"]
    """A model failure is final, the others are followed by another attempt; a stalled one has made
    no progress; a straggler is ended because its node is slow, which says nothing of the seed."""
    iteration: Count = 0
    """The furthest iteration that any attempt of this seed had recorded by then."""
    generation: Count = 0
    """Of the controller that saw it; attempts are counted anew when a person starts again."""


@dataclass(frozen=True)
class Input:
    """One seed as a promotion or decision saw it; a failed seed has only its number."""

    seed: Seed
    attempt: Count | None
    jaccard: Jaccard | None
    sha256: Sha256 | None
    """Of the report's bytes."""


@dataclass(frozen=True)
class Promotion(Fact):
    """A seed that is promoted whatever the others of its rung will report."""

    form: ClassVar[str] = PROMOTION
    rung: Count
    seed: Seed
    inputs: tuple[Input, ...]
    """The reports and final failures that it depends on."""


@dataclass(frozen=True)
class Decision(Fact):
    """A rung is over. `promoted` is sorted best first; at the last rung it is the winner."""

    form: ClassVar[str] = DECISION
    rung: Count
    iterations: Count
    inputs: tuple[Input, ...]
    promoted: tuple[Seed, ...]
    pruned: tuple[Seed, ...]

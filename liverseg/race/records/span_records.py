"""What a span is made of: a trainer's own records, and the controller's of the job's end."""

from dataclasses import dataclass

from liverseg.race.records.decisions import ExitCode
from liverseg.race.records.facts import AnyRung, Fact, Seed
from liverseg.storage.record import Count


@dataclass(frozen=True)
class SpanProgress(Fact):
    """How far a trainer was when."""

    seed: Seed
    rung: AnyRung
    attempt: Count
    iteration: Count
    time: float
    """Unix time."""


@dataclass(frozen=True)
class SpanStart(SpanProgress):
    """A trainer's process began."""

    device: str = ""
    """The machine and what of it computes."""
    pod: str = ""
    """What tells this process from others that were given the same attempt."""


@dataclass(frozen=True)
class SpanEnd(SpanProgress):
    """A trainer's process ends; one that was killed has no such record."""

    exit_code: ExitCode


@dataclass(frozen=True)
class SpanClosed(Fact):
    """A job ended, as its platform tells it; written by the controller."""

    seed: Seed
    rung: AnyRung
    attempt: Count
    iteration: Count
    started: float | None
    """Unix time; None: not known."""
    ended: float | None
    exit_code: ExitCode | None

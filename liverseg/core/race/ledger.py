"""What the trainings cost, and what for. Pure.

useful    first execution of iterations that a committed report covers, losers' included
repeated  the same iterations done again, and the time whose work died with its process
pruned    spent by a seed after the decision against it
startup   the rest: starting, saving, and iterations that no report covers (yet)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Literal

from liverseg.exit_codes import ExitCode

RungName = int | Literal["baseline"]
Outcome = Literal["useful", "repeated", "pruned", "startup"]
OUTCOMES: tuple[Outcome, ...] = ("useful", "repeated", "pruned", "startup")
# A process that ends with one of these has saved what it did.
_SAVED = (ExitCode.DONE, ExitCode.INTERRUPTED, ExitCode.ORPHANED)


@dataclass(frozen=True)
class Sample:
    """How far a process was when; `time` in unix seconds."""

    iteration: int
    time: float


@dataclass(frozen=True)
class Span:
    """The life of one process."""

    seed: int
    rung: RungName
    attempt: int
    samples: tuple[Sample, ...]
    """In order of time: its start, the iteration it resumed from, validations, its end."""
    ended: bool
    exit_code: int | None
    device: str = ""
    """The machine and what of it computes, as the process named them."""
    pod: str = ""
    """The uid of the pod that it ran in; empty: in none, or not known."""

    @cached_property
    def seconds(self) -> float:
        """From the start to the last that was heard."""
        return self.samples[-1].time - self.samples[0].time

    @cached_property
    def stretches(self) -> list[tuple[int, float]]:
        """(iterations, seconds) between two samples, from the one at which it resumed."""
        pairs = pairwise(self.samples[1:])
        return [(b.iteration - a.iteration, b.time - a.time) for a, b in pairs]

    @cached_property
    def recent_rate(self) -> float | None:
        """Iterations per second over the last two stretches; None before the first.

        Two, so that a node that has become slow shows after two validations.
        """
        iterations, seconds = (
            sum(values) for values in zip((0, 0.0), *self.stretches[-2:], strict=True)
        )
        return iterations / seconds if iterations > 0 and seconds > 0 else None


@dataclass(frozen=True)
class Bar:
    """One trainer's life; seconds since the race began."""

    gpu: int
    """Number of its GPU, from 0."""
    seed: int
    rung: RungName
    start: float
    end: float


@dataclass(frozen=True)
class Spent:
    """Iterations, and GPU (or CPU) seconds."""

    iterations: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.iterations + other.iterations, self.seconds + other.seconds)


Cost = dict[Outcome, Spent]


def cost_by_attempt(
    spans: Iterable[Span],
    covered: Mapping[int, int],
    decided: Mapping[int, float],
) -> dict[tuple[int, RungName, int], Cost]:
    """Return what every seed spent at every rung in every attempt.

    Args:
        spans: All processes; their seconds are what the outcomes add up to.
        covered: By seed, the iterations of its furthest committed report.
        decided: By seed, the time of the decision against it (see `decision_times`).
    """
    costs: dict[tuple[int, RungName, int], Cost] = {}
    done: dict[int, set[range]] = {}
    for span in sorted(spans, key=lambda s: (s.samples[0].time, s.attempt)):
        cost = costs.setdefault((span.seed, span.rung, span.attempt), empty())
        before = done.setdefault(span.seed, set())
        end = covered.get(span.seed, 0)
        for outcome, spent in _outcomes(span, before, end, decided.get(span.seed)):
            cost[outcome] += spent
    return costs


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs."""
    whole = empty()
    for cost in costs:
        for outcome, spent in cost.items():
            whole[outcome] += spent
    return whole


def empty() -> Cost:
    """Return the cost of nothing."""
    return {outcome: Spent() for outcome in OUTCOMES}


def decision_times(
    decisions: Iterable[tuple[RungName, Mapping[int, int | None], Iterable[int]]],
    spans: Iterable[Span],
) -> dict[int, float]:
    """Return, by pruned seed, when it was decided against.

    A decision is (rung, attempt that reported by seed, pruned seeds). It carries no time, so that
    it can be computed again bit for bit; it falls when the last process it rests on has ended.
    """
    ends = {(s.seed, s.rung, s.attempt): s.samples[-1].time for s in spans}
    times: dict[int, float] = {}
    for rung, attempts, pruned in decisions:
        ended_at = [
            ends[s, rung, a] for s, a in attempts.items() if a is not None and (s, rung, a) in ends
        ]
        if ended_at:
            times |= dict.fromkeys(pruned, max(ended_at))
    return times


def most_at_once(spans: Iterable[Span]) -> int:
    """Return the highest number of trainers that lived at the same time, without the baseline's."""
    race = [span for span in spans if span.rung != "baseline"]
    changes = [(span.samples[0].time, 1) for span in race]
    changes += [(span.samples[-1].time, -1) for span in race if span.ended]
    # An end and a beginning at one time are one GPU passed on, so ends come first.
    return max(accumulate((change for _, change in sorted(changes)), initial=0))


def _outcomes(
    span: Span, done: set[range], covered: int, decided: float | None
) -> Iterable[tuple[Outcome, Spent]]:
    """Yield what each stretch between two samples was for; adds to `done` what was executed."""
    last = len(span.samples) - 2
    for index, (a, b) in enumerate(pairwise(span.samples)):
        seconds = b.time - a.time
        # The first stretch ends with the iteration it resumed from: nothing was executed.
        iterations = max(0, b.iteration - a.iteration) if index else 0
        if decided is not None and b.time > decided:
            yield "pruned", Spent(iterations, seconds)
        elif iterations:
            stretch = range(a.iteration + 1, b.iteration + 1)
            yield from _stretch(stretch, seconds, done, covered)
        elif 0 < index == last and span.ended and span.exit_code not in _SAVED:
            yield "repeated", Spent(0, seconds)
        else:
            yield "startup", Spent(0, seconds)


def _stretch(
    stretch: range, seconds: float, done: set[range], covered: int
) -> Iterable[tuple[Outcome, Spent]]:
    """Yield the outcomes of executed iterations, their seconds shared out in proportion."""
    new = [stretch]
    for earlier in done:
        new = [part for whole in new for part in _without(whole, earlier)]
    for part in new:
        # What follows another stretch makes one of both: few are left to compare with.
        before = next((earlier for earlier in done if earlier.stop == part.start), part)
        done.discard(before)
        done.add(range(before.start, part.stop))
    first = sum(map(len, new))
    useful = sum(len(range(part.start, min(part.stop, covered + 1))) for part in new)
    parts: list[tuple[Outcome, int]] = [
        ("useful", useful),
        ("repeated", len(stretch) - first),
        ("startup", first - useful),
    ]
    for outcome, iterations in parts:
        if iterations:
            yield outcome, Spent(iterations, seconds * iterations / len(stretch))


def _without(whole: range, other: range) -> list[range]:
    """Return what of a range lies before and behind another one."""
    before = range(whole.start, min(whole.stop, other.start))
    behind = range(max(whole.start, other.stop), whole.stop)
    return [part for part in (before, behind) if part]

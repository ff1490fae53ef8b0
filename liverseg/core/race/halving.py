"""Successive halving (docs/method.md section 9): who trains how far, and who is promoted.

Pure: a decision takes scores and gives seeds. `scores` maps a seed to its validation Jaccard, or
to None for a seed that failed for good or has no finite value; a seed that has not reported yet is
absent.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heapreplace

from liverseg.errors import SettingsError


@dataclass(frozen=True)
class Rung:
    """How many seeds train to how many iterations, counted from the start of the training."""

    size: int
    iterations: int


@dataclass(frozen=True)
class Standing:
    """A rung's end; both sides are sorted best first."""

    promoted: tuple[int, ...]
    pruned: tuple[int, ...]


def schedule(seeds: int, minimum: int, maximum: int, eta: int) -> tuple[Rung, ...]:
    """Return the rungs: max(1, seeds // eta^k) seeds at min(maximum, minimum eta^k) iterations.

    Counted with integer powers, since a floating logarithm loses a rung to rounding: in Python
    math.log(243, 3) is 4.999...
    """
    rungs: list[Rung] = []
    power = 1
    while not rungs or rungs[-1].iterations < maximum:
        rungs.append(Rung(max(1, seeds // power), min(maximum, minimum * power)))
        power *= eta
    return tuple(rungs)


def promotion_slots(rungs: tuple[Rung, ...], rung: int) -> int:
    """Return how many seeds leave the rung: the next one's size, and one winner at the last."""
    return rungs[rung + 1].size if rung + 1 < len(rungs) else 1


def rank(scores: Mapping[int, float | None]) -> list[int]:
    """Return the seeds best first: highest score, ties to the lower seed, None last."""

    def order(seed: int) -> tuple[bool, float, int]:
        score = scores[seed]
        return (True, 0.0, seed) if score is None else (False, -score, seed)

    return sorted(scores, key=order)


def decide(scores: Mapping[int, float | None], promotion_slots: int) -> Standing:
    """Return who is promoted when every seed of the rung has a score or has failed for good.

    With fewer living seeds than slots, those that live go on; nobody is taken in their stead.
    """
    ranked = rank(scores)
    promoted = tuple(seed for seed in ranked[:promotion_slots] if scores[seed] is not None)
    return Standing(promoted, tuple(seed for seed in ranked if seed not in promoted))


def guaranteed(scores: Mapping[int, float | None], waiting: int, promotion_slots: int) -> list[int]:
    """Return the seeds, best first, that are promoted whatever the `waiting` others will report.

    Those others may all turn out better, so a promotion is guaranteed when its rank and
    their number together stay within the slots. The same seeds as `decide` will promote.
    """
    ranked = rank(scores)[: max(0, promotion_slots - waiting)]
    return [seed for seed in ranked if scores[seed] is not None]


def hopeful(
    scores: Mapping[int, float | None], waiting: Collection[int], promotion_slots: int
) -> frozenset[int]:
    """Return the seeds that may still leave the rung: those waiting and the best that reported."""
    living = [seed for seed in rank(scores)[:promotion_slots] if scores[seed] is not None]
    return frozenset(living) | frozenset(waiting)


def makespan(lengths: Iterable[float], trainers: int) -> float:
    """Return the seconds until all jobs are done: longest first, each on the next free trainer."""
    ends = [0.0] * trainers
    heapify(ends)
    for length in sorted(lengths, reverse=True):
        heapreplace(ends, ends[0] + length)
    return max(ends)


@dataclass(frozen=True)
class Figures:
    """What a schedule costs on a number of GPUs."""

    iterations: int
    """Of all seeds together."""
    gpu_seconds: float
    makespan_seconds: float
    longest_chain_iterations: int
    """Iterations that have to be done one after another."""
    rungs: tuple[Rung, ...]


def figures(rungs: tuple[Rung, ...], gpus: int, seconds_per_iteration: float) -> Figures:
    """Return the cost of a race in which every rung waits for its last seed.

    Resumed trainings only do the difference to the rung before. 16 seeds on 4 GPUs from 5k to 80k
    iterations make 240k iterations, 100k of them in a row (paper: Results, training times).
    """
    if gpus < 1:
        raise SettingsError(f"gpus ({gpus}) must be at least 1")
    if not seconds_per_iteration > 0:
        raise SettingsError(
            f"seconds per iteration ({seconds_per_iteration}) must be greater than 0"
        )
    iterations, chain, before = 0, 0, 0
    for rung in rungs:
        step = rung.iterations - before
        iterations += rung.size * step
        chain += -(-rung.size // gpus) * step
        before = rung.iterations
    seconds = seconds_per_iteration
    return Figures(iterations, iterations * seconds, chain * seconds, chain, rungs)

"""How sure a rung was: who would have been promoted with other validation cases.

A bootstrap over the validation cases. They are drawn with replacement, the same ones for every
seed, and each seed is ranked anew on the mean of what was drawn: with `best` by its best validation
so far, which may be another iteration than in the race. How often a seed is promoted says how much
of its fate it owes to these very cases. The spread between trainings of one seed, and what a few
cases cannot know of others, are not in it: a rung that is flagged was decided inside the noise, one
that is not flagged may still have been.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

MINIMUM_CASES = 5
"""With fewer there are too few different resamples for a frequency to mean anything."""
RESAMPLES = 10_000
SURE = 0.9
"""A seed's fate is inside the noise where fewer than this share of the resamples repeat it."""
# Means are compared to this many digits: a sum in another order may differ in the last ones, and
# seeds with the same values are to tie as they do in the race.
_DIGITS = 12


@dataclass(frozen=True)
class RungBootstrap:
    """One rung over all resamples."""

    promoted: dict[int, float]
    """By seed, the share of the resamples that promote it; they add up to the slots taken."""
    repeated: float
    """Share of the resamples that promote exactly the seeds that the race promoted."""
    inside_noise: tuple[int, ...]
    """Promoted seeds below SURE and pruned ones above 1 - SURE, sorted."""


def assess(
    curves: Mapping[int, Values],
    promoted: Collection[int],
    promotion_slots: int,
    metric: Literal["best", "last"],
    *,
    resamples: int = RESAMPLES,
    random_seed: int = 0,
) -> RungBootstrap:
    """Return how often each seed of a rung is promoted when its validation cases are resampled.

    Args:
        curves: By seed that has a score, Jaccard of its validations up to the rung, in order of
            iteration, (validations, cases), the same cases everywhere.
        promoted: Seeds that the race promoted.
        promotion_slots: How many leave the rung; where fewer live, those that live.
        metric: What ranks the seeds, `race.rung_metric`.
        resamples: How many times the cases are drawn.
        random_seed: The same one gives the same frequencies.

    Raises:
        ValueError: There are fewer cases than MINIMUM_CASES, or not the same number everywhere.
    """
    widths = {values.shape[1] for values in curves.values()}
    if len(widths) != 1 or min(widths) < MINIMUM_CASES:
        raise ValueError(f"the seeds have {sorted(widths)} cases; all need one number from 5")
    drawn = _draw(widths.pop(), resamples, random_seed)
    seeds = sorted(curves)
    scores = np.stack([_scores(curves[seed], drawn, metric) for seed in seeds], axis=1)
    # Ties go to the lower seed, as in the race: the seeds are sorted and so is this one stable.
    order = np.argsort(-scores, axis=1, kind="stable")[:, :promotion_slots]
    wins = np.zeros(scores.shape, bool)
    np.put_along_axis(wins, order, True, axis=1)
    shares = dict(zip(seeds, wins.mean(axis=0).tolist(), strict=True))
    same = wins == np.isin(seeds, sorted(promoted))
    return RungBootstrap(
        promoted=shares,
        repeated=float(same.all(axis=1).mean()),
        inside_noise=tuple(s for s in seeds if _fate(shares[s], s in promoted) < SURE),
    )


def _draw(cases: int, resamples: int, random_seed: int) -> Values:
    """Return by resample how large a share of it each case is, (resamples, cases)."""
    rng = np.random.default_rng(random_seed)
    return rng.multinomial(cases, np.full(cases, 1 / cases), size=resamples) / cases


def _scores(values: Values, drawn: Values, metric: Literal["best", "last"]) -> Values:
    """Return a seed's ranking value in every resample, (resamples,)."""
    chosen = values if metric == "best" else values[-1:]
    means = np.round(drawn @ chosen.T, _DIGITS)
    best: Values = means.max(axis=1)
    return best


def _fate(share: float, was_promoted: bool) -> float:
    """Return the share of the resamples in which the seed fares as it did in the race."""
    return share if was_promoted else 1 - share

"""What differences over few cases are worth: paired tests, families of tests, intervals.

docs/method.md section 14. The paper's p-values are those of the normal approximation; with 19 cases
the exact ones can be had as well, and stand beside them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FALSE_DISCOVERY_RATE = 0.05
RESAMPLES = 10_000
SEED = 0
"""Of the resamples: the same values give the same interval."""
CONFIDENCE = 0.95
MINIMUM_CASES = 2
"""One case has no spread: a p-value or an interval from it would say nothing."""
DECIMALS = 12
"""Differences are rounded to it, so that 1 - 2/3 and 1/3 are one rank and not two."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairedTest:
    """Two-sided Wilcoxon signed-rank test over cases; no p without enough cases."""

    n: int
    """Pairs in which both values are defined, those without a difference included."""
    n_nan: int
    """Pairs left out because one of the two is not defined."""
    statistic: float | None
    """The smaller of the two rank sums; zeros are dropped, ties share their mean rank."""
    p: float | None
    """Normal approximation without continuity correction, as in the paper."""
    p_exact: float | None
    """Share of all 2^n ways to flip signs that are at least as far from the middle."""
    reason: str | None
    """Why there is no p-value."""


@dataclass(frozen=True)
class Summary:
    """Values over cases; None where there are too few for it."""

    mean: float | None
    sd: float | None
    """Sample standard deviation (n - 1)."""
    median: float | None
    n: int
    """Defined values."""
    n_nan: int
    """Values that are not defined; they are in none of the figures."""
    ci95: tuple[float, float] | None
    """Of the mean: percentiles over resampled cases."""


def wilcoxon(first: Sequence[float | None], second: Sequence[float | None]) -> PairedTest:
    """Compare two values a case; None is a case in which one is not defined."""
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    n, undefined = len(both), len(first) - len(both)
    if n < MINIMUM_CASES:
        cases = "1 case has" if n == 1 else f"{n} cases have"
        reason = f"{cases} both values; a paired test needs {MINIMUM_CASES}"
        return PairedTest(n, undefined, None, None, None, reason)
    differences = [round(a - b, DECIMALS) for a, b in both]
    if not any(differences):
        return PairedTest(n, undefined, 0.0, 1.0, 1.0, None)
    # Its stubs miss "asymptotic" here.
    test = stats.wilcoxon(  # type: ignore[call-overload]
        differences, zero_method="wilcox", correction=False, method="asymptotic"
    )
    return PairedTest(
        n,
        undefined,
        float(test.statistic),
        float(test.pvalue),
        exact_p(differences),
        None,
    )


def exact_p(differences: npt.ArrayLike) -> float:
    """Return the two-sided p from the full sign-flip distribution on mid-ranks, zeros dropped.

    The distribution of the rank sum is built one rank at a time: n convolutions, not 2^n sums.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    # Mid-ranks are multiples of a half: doubled they are whole numbers, and indices.
    ranks = np.rint(2 * stats.rankdata(np.abs(values))).astype(np.int64)
    share = np.zeros(int(ranks.sum()) + 1)
    share[0] = 1.0
    for rank in ranks.tolist():
        flipped = np.zeros_like(share)
        flipped[rank:] = share[: len(share) - rank]
        share = (share + flipped) / 2
    smaller = min(int(ranks[values > 0].sum()), int(ranks[values < 0].sum()))
    return min(1.0, 2 * float(share[: smaller + 1].sum()))


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Benjamini-Hochberg's adjusted p of one family; without p a test is in no family."""
    defined = [p for p in p_values if p is not None]
    if not defined:
        return [None] * len(p_values)
    corrected = iter(stats.false_discovery_control(defined, method="bh").tolist())
    return [None if p is None else float(next(corrected)) for p in p_values]


def summarise(values: Sequence[float | None], seed: int = SEED) -> Summary:
    """Return figures over the defined values, with a bootstrap interval of their mean."""
    defined = np.array([v for v in values if v is not None], dtype=np.float64)
    undefined = len(values) - len(defined)
    if not len(defined):
        return Summary(None, None, None, 0, undefined, None)
    enough = len(defined) >= MINIMUM_CASES
    return Summary(
        mean=math.fsum(defined) / len(defined),
        sd=float(defined.std(ddof=1)) if enough else None,
        median=float(np.median(defined)),
        n=len(defined),
        n_nan=undefined,
        ci95=bootstrap_interval(defined, seed) if enough else None,
    )


def bootstrap_interval(values: Floats, seed: int = SEED) -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile of the mean over resampled cases."""
    rng = np.random.default_rng(seed)
    # A part at a time: all resamples of a thousand cases at once would be 80 MB of indices.
    parts = [
        values[rng.integers(0, len(values), (RESAMPLES // 10, len(values)))].mean(axis=1)
        for _ in range(10)
    ]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(parts), [tail, 100 - tail])
    return float(low), float(high)

"""Quantiles of the grey values of many cases, exactly, with one case in memory at a time."""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from liverseg.core.volumes.volume import FloatArray

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

_LOW_BITS = 12
_HIGH = 2 ** (32 - _LOW_BITS)
_LOW = 2**_LOW_BITS
_SIGN = np.uint32(1 << 31)


def quantiles(
    cases: Callable[[Callable[[FloatArray], Counts]], Iterable[Counts]], shares: Values
) -> Values:
    """Return the quantiles of all values together, the same as `np.quantile` of them.

    A value is searched by its bits, the upper ones first: counting needs 12 MB however many values
    there are, but every case is read twice.

    Args:
        cases: Applies a function to the values (float32, any shape) of each case and returns the
            results; called twice.
        shares: From 0 to 1, ascending.
    """
    upper = _total(cases(_upper_counts))
    number = int(upper.sum())
    positions = (number - 1) * shares
    before = np.floor(positions).astype(np.int64)
    ranks = np.unique(np.concatenate((before, np.minimum(before + 1, number - 1))))
    ends = np.cumsum(upper)
    high = np.searchsorted(ends, ranks, side="right")
    wanted = np.unique(high)
    lower = _total(cases(lambda values: _lower_counts(values, wanted)))
    rows = np.searchsorted(wanted, high)
    within = ranks - (ends[high] - upper[high])
    low = [
        int(np.searchsorted(np.cumsum(lower[row]), rank, side="right"))
        for row, rank in zip(rows, within, strict=True)
    ]
    at_rank = dict(zip(ranks.tolist(), _values(high, np.array(low)), strict=True))
    # numpy interpolates between the two neighbours, so that rounding is the same as well.
    return np.array(
        [
            np.quantile(
                np.array([at_rank[rank], at_rank[min(rank + 1, number - 1)]]), np.array([rest])
            )[0]
            for rank, rest in zip(before.tolist(), positions - before, strict=True)
        ]
    )


def _total(counts: Iterable[Counts]) -> Counts:
    """Add up, one at a time."""
    total: Counts | None = None
    for one in counts:
        total = one if total is None else np.add(total, one, out=total)
    assert total is not None, "a study without training cases is refused when it is opened"
    return total


def _upper_counts(values: FloatArray) -> Counts:
    return np.bincount(_ordered(values) >> _LOW_BITS, minlength=_HIGH)


def _lower_counts(values: FloatArray, wanted: npt.NDArray[np.int64]) -> Counts:
    """Count by lower bits (wanted upper bits, lower bits)."""
    ordered = _ordered(values)
    row = np.full(_HIGH, -1, np.int16)
    row[wanted] = np.arange(len(wanted))
    rows = row[ordered >> _LOW_BITS]
    taken = rows >= 0
    flat = rows[taken].astype(np.int64) * _LOW + (ordered[taken] & (_LOW - 1))
    return np.bincount(flat, minlength=len(wanted) * _LOW).reshape(-1, _LOW)


def _ordered(values: FloatArray) -> npt.NDArray[np.uint32]:
    """Return unsigned numbers that are in the order of the values."""
    # Minus zero is equal to zero and would lie beside it.
    bits = (values.ravel() + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _values(high: npt.NDArray[np.int64], low: npt.NDArray[np.int64]) -> FloatArray:
    ordered = (high << _LOW_BITS | low).astype(np.uint32)
    return np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered).astype(np.uint32).view(np.float32)

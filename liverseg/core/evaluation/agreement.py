"""Whether an algorithm is as good as the raters: agreement, and the score that knows their spread.

docs/method.md section 13, with two or more raters.
"""

import itertools
import math
from collections.abc import Sequence

AS_GOOD_AS_RATERS = 0.9
"""phi of an algorithm that is as far from the raters as they are from each other."""
SLOPE = 0.1
"""What phi loses when the algorithm's error is the raters'."""


def pairs(raters: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of raters: (1, 2), (1, 3), (2, 3) of three."""
    return list(itertools.combinations(raters, 2))


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the defined values; None where there are none."""
    defined = [v for v in values if v is not None]
    return math.fsum(defined) / len(defined) if defined else None


def phi(with_raters: Sequence[float], between_raters: Sequence[float]) -> float | None:
    """Return max(0, 1 - 0.1 e(A) / e(R)) of one case, e = 1 - mean Dice.

    `with_raters` are the algorithm's Dice, `between_raters` the raters' by pair. None with one
    rater: there is nothing to compare with. Raters that agree wholly (e(R) = 0) give 1 to an
    algorithm that agrees as well, else 0; see `raters_identical`.
    """
    if not between_raters or not with_raters:
        return None
    algorithm = 1 - math.fsum(with_raters) / len(with_raters)
    if raters_identical(between_raters):
        return 1.0 if algorithm == 0 else 0.0
    raters = 1 - math.fsum(between_raters) / len(between_raters)
    return max(0.0, 1 - SLOPE * algorithm / raters)


def raters_identical(between_raters: Sequence[float]) -> bool:
    """Say whether phi has no scale in this case: two or more raters, all masks the same."""
    return bool(between_raters) and all(dice == 1 for dice in between_raters)

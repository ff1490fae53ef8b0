"""Every measure: one row adds it to the JSON, the CSV, the tables, the page and the tests.

docs/method.md section 13 defines them; docs/architecture.md says how to add one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from liverseg.core.evaluation.agreement import phi
from liverseg.core.evaluation.delineation import Delineation
from liverseg.core.evaluation.detection import Counts
from liverseg.core.evaluation.overlap import dice_of_counts, jaccard_of_counts
from liverseg.core.evaluation.surface import SurfaceDistances, surface_distances

EVALUATION_VERSION = 3
"""Raised with every change below, so that a study is evaluated again; it predicts nothing anew."""

MEAN = "mean"
"""Stands beside the raters' names, so that no rater may be called so."""
UNITS = ("lesion", "correspondence")
"""What is counted as found: reference lesions, or clusters of lesions that match."""


@dataclass(frozen=True)
class Pair:
    """What an algorithm drew in a case, and what a rater drew there."""

    drawn: Delineation
    reference: Delineation

    @cached_property
    def shared(self) -> int:
        """Voxels of both."""
        return self.drawn.shared_with(self.reference)

    @cached_property
    def distances(self) -> SurfaceDistances:
        """Between their surfaces, in mm."""
        return surface_distances(self.drawn.surface, self.reference.surface)


@dataclass(frozen=True)
class Measure:
    """What is said of one algorithm in one case."""

    name: str
    """In the JSON and in the CSV; with its unit, where it has one."""
    label: str
    """In tables."""
    unit: str
    """Empty: a share or a count."""
    family: str | None
    """Its tests are adjusted together with those of this name; None: it is not tested."""
    headline: bool
    """Shown for every case on the page, and with its interval."""

    @property
    def head(self) -> str:
        """The head of its column."""
        return f"{self.label} {self.unit}".strip()

    @property
    def mean_name(self) -> str:
        """Under which its mean over the raters is found."""
        return f"{self.name}.{MEAN}"

    def names(self, raters: Sequence[str]) -> list[str]:
        """Return the names of its values, such as "dice.R1", "dice.mean"."""
        return [f"{self.name}.{rater}" for rater in raters] + [self.mean_name]


@dataclass(frozen=True)
class RaterMeasure(Measure):
    """Compares with each rater; the mean over the raters is added."""

    value: Callable[[Pair], float | None]
    """None where it is not defined."""


@dataclass(frozen=True)
class CaseMeasure(Measure):
    """One value per case, of its Dice with the raters and of the raters' Dice by pair."""

    value: Callable[[Sequence[float], Sequence[float]], float | None]

    @property
    def mean_name(self) -> str:
        """Its only name."""
        return self.name

    def names(self, raters: Sequence[str]) -> list[str]:  # noqa: ARG002
        """Return its only name."""
        return [self.name]


@dataclass(frozen=True)
class DetectionScore(Measure):
    """Of the counts against each rater; `family` and `headline` hold for unit "lesion"."""

    value: Callable[[Counts], float | None]

    @property
    def mean_name(self) -> str:
        """Of unit "lesion"."""
        return f"{UNITS[0]}.{self.name}.{MEAN}"

    def names(self, raters: Sequence[str]) -> list[str]:
        """Return the names of unit "lesion", such as "lesion.recall.R1"."""
        return [f"{UNITS[0]}.{self.name}.{rater}" for rater in (*raters, MEAN)]


def _dice(pair: Pair) -> float:
    return dice_of_counts(pair.shared, pair.drawn.voxels, pair.reference.voxels)


def _jaccard(pair: Pair) -> float:
    return jaccard_of_counts(pair.shared, pair.drawn.voxels, pair.reference.voxels)


def relative_volume_difference(pair: Pair) -> float | None:
    """Return (|A| - |R|) / |R| of a pair; negative: too small; None if the rater drew nothing."""
    if not pair.reference.voxels:
        return None
    return (pair.drawn.voxels - pair.reference.voxels) / pair.reference.voxels


DICE = RaterMeasure("dice", "Dice", "", "segmentation", True, _dice)
PHI = CaseMeasure("phi", "phi", "", "segmentation", True, phi)
MEASURES: tuple[RaterMeasure | CaseMeasure, ...] = (
    DICE,
    PHI,
    RaterMeasure("jaccard", "Jaccard", "", None, False, _jaccard),
    RaterMeasure("hd_mm", "HD", "mm", None, False, lambda p: p.distances.hd_mm),
    RaterMeasure("hd95_mm", "HD95", "mm", None, True, lambda p: p.distances.hd95_mm),
    RaterMeasure("assd_mm", "ASSD", "mm", None, False, lambda p: p.distances.assd_mm),
    RaterMeasure("rvd", "RVD", "", None, False, relative_volume_difference),
)
SCORES = (
    DetectionScore("recall", "recall", "", "detection", True, lambda counts: counts.recall),
    DetectionScore("precision", "precision", "", "detection", True, lambda c: c.precision),
    DetectionScore("f1", "F1", "", "detection", False, lambda counts: counts.f1),
    DetectionScore("fp", "FPC", "", None, False, lambda counts: counts.fp),
)
"""Of both UNITS; FPC is false positives per case."""
ALL: tuple[Measure, ...] = (*MEASURES, *SCORES)
HEADLINES = {measure.mean_name: measure.head for measure in ALL if measure.headline}
"""Names of values and heads of columns."""

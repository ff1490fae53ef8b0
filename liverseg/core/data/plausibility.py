"""Whether what was measured of a case can be right: bounds are settings, and judged at every scan.

docs/method.md section 2. Files can be read without an error and still be the wrong ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from liverseg.core.data.measurements import Measurements
from liverseg.core.volumes.volume import Spacing
from liverseg.settings import PlausibilitySettings, SliceAxis

Severity = Literal["error", "warning"]
Range = tuple[float, float]

_EQUAL = 1e-3  # relative: spacings are rounded in files
_AXES = ("z", "y", "x")


@dataclass(frozen=True)
class Implausible:
    """What is unlikely about a file: an error refuses the case, a warning is only shown."""

    file: str
    """Its name in the case, such as "liver" or "R1"."""
    severity: Severity
    text: str
    """Both values, and what to do."""


@dataclass(frozen=True)
class SpacingRange:
    """The smallest and the largest spacing (mm) of the cases that a network is trained on."""

    between_slices: Range
    in_plane: Range

    @classmethod
    def of(cls, spacings_mm: Sequence[Spacing]) -> "SpacingRange | None":
        """Return the range of spacings (z, y, x); None where there are none."""
        if not spacings_mm:
            return None
        between = [z for z, _, _ in spacings_mm]
        in_plane = [mm for _, *plane in spacings_mm for mm in plane]
        return cls((min(between), max(between)), (min(in_plane), max(in_plane)))

    def to_mapping(self) -> dict[str, list[float]]:
        """Return it as JSON has it."""
        return {"between_slices": list(self.between_slices), "in_plane": list(self.in_plane)}


def judge(
    measured: Measurements,
    bounds: PlausibilitySettings,
    labels: Mapping[str, Sequence[int]] | None = None,
) -> list[Implausible]:
    """Return everything that is unlikely about a case's masks.

    `labels` are those that count by "lesion" and "liver", where settings say so.
    """
    return [
        *_liver(measured, bounds),
        *_lesions(measured, bounds),
        *_identical(measured),
        *_apart(measured),
        *_unlabelled(measured, labels or {}),
    ]


def judge_slice_axis(spacing_mm: Spacing, slice_axis: SliceAxis) -> list[Implausible]:
    """Return an error if slices seem to lie along another axis than z, and no setting says so.

    Where a setting says that they are coronal or sagittal, another coarsest axis is a warning: the
    spacing (z, y, x) is then that of an image with its slices first.
    """
    coarsest = max(spacing_mm)
    if slice_axis in ("y", "x") and spacing_mm[0] < coarsest * (1 - _EQUAL):
        text = (
            f"its slices are {_mm(spacing_mm[:1])} mm apart and its voxels up to "
            f"{_mm((coarsest,))} mm wide, although preparation.slice_axis={slice_axis} says that "
            f"they lie along {slice_axis}: it may be of another orientation than the other cases"
        )
        return [Implausible("image", "warning", text)]
    if slice_axis != "auto" or spacing_mm[0] >= coarsest * (1 - _EQUAL):
        return []
    coarse = [a for a, mm in zip(_AXES, spacing_mm, strict=True) if mm >= coarsest * (1 - _EQUAL)]
    text = f"the image has {_mm(spacing_mm)} mm (z, y, x): its coarsest axis is not z"
    if len(coarse) == 1:
        series = "coronal" if coarse == ["y"] else "sagittal"
        text += (
            f", so that its slices are {series}, along {coarse[0]}, and interpolating within "
            f"axial slices would interpolate across them; preparation.slice_axis={coarse[0]} "
            "takes them as they are"
        )
    text += "; if its slices are axial, say preparation.slice_axis=z"
    return [Implausible("image", "error", text)]


def judge_spacing(
    spacing_mm: Spacing, trained: SpacingRange | None, bounds: PlausibilitySettings
) -> list[Implausible]:
    """Return warnings for a spacing (z, y, x) far from what a network is trained on."""
    if trained is None:
        return []
    z, y, x = spacing_mm
    pairs = (
        ("slice distance", (z, z), trained.between_slices),
        ("in-plane spacing", (min(y, x), max(y, x)), trained.in_plane),
    )
    factor = bounds.spacing_factor
    return [
        Implausible(
            "image",
            "warning",
            f"the image has a {what} of {_range(present)} mm, the training cases have "
            f"{_range(range_mm)} mm, and plausibility.spacing_factor is {factor:g}: look at the "
            "spacing in its file, and compare its result with a rater's before it is used",
        )
        for what, present, range_mm in pairs
        if present[0] < range_mm[0] / factor or present[1] > range_mm[1] * factor
    ]


def _liver(measured: Measurements, bounds: PlausibilitySettings) -> Iterator[Implausible]:
    ml, (low, high) = measured.liver_ml, bounds.liver_ml
    if not ml:  # an empty mask cannot be prepared, which says so
        return
    advice = "look at the mask, and at the spacings in its file"
    if ml < bounds.smallest_liver_ml:
        text = (
            f"the liver has {ml:.3g} ml, less than plausibility.smallest_liver_ml "
            f"({bounds.smallest_liver_ml:g} ml); {advice}"
        )
        yield Implausible("liver", "error", text)
    elif not low <= ml <= high:
        text = (
            f"the liver has {ml:.4g} ml, outside plausibility.liver_ml ({low:g} to {high:g} ml); "
            f"{advice}"
        )
        yield Implausible("liver", "warning", text)


def _lesions(measured: Measurements, bounds: PlausibilitySettings) -> Iterator[Implausible]:
    liver = measured.liver_voxels
    if not liver:
        return
    for rater, outside in measured.outside_voxels.items():
        lesion = measured.lesion_voxels[rater]
        if not lesion:
            continue
        if (share := (lesion - outside) / liver) > bounds.lesion_share:
            text = (
                f"lesions fill {share:.0%} of the liver, more than plausibility.lesion_share "
                f"({bounds.lesion_share:.0%}); were the masks of liver and lesions swapped?"
            )
            yield Implausible(rater, "error", text)
        if outside == lesion:
            text = (
                f"all {lesion} lesion voxels lie outside the liver ({liver} voxels); look at both "
                "masks, and whether data.liver_labels lacks the lesions' label"
            )
            yield Implausible(rater, "error", text)
        elif outside / lesion > bounds.outside_share:
            text = (
                f"{outside} of {lesion} lesion voxels ({outside / lesion:.0%}) lie outside the "
                f"liver, more than plausibility.outside_share ({bounds.outside_share:.0%}), where "
                "no lesion is predicted; look at both masks"
            )
            yield Implausible(rater, "warning", text)


def _identical(measured: Measurements) -> Iterator[Implausible]:
    for first, second in measured.identical:
        if first == "image":
            text = (
                f"the image has two values, the larger one where the mask of {second} is: the "
                "mask was saved in the place of the image; export the image again"
            )
            yield Implausible("image", "error", text)
        elif first != "liver":  # as large as the liver is refused by its share
            text = (
                f"the mask is identical to that of {first}: two raters do not draw the same by "
                "chance; is it a copy?"
            )
            yield Implausible(second, "warning", text)


def _apart(measured: Measurements) -> Iterator[Implausible]:
    for first, second in measured.apart:
        text = (
            f"none of its {measured.lesion_voxels[second]} voxels is one of the "
            f"{measured.lesion_voxels[first]} of {first}: is it a mask of another case, or of "
            "another orientation?"
        )
        yield Implausible(second, "warning", text)


def _unlabelled(
    measured: Measurements, labels: Mapping[str, Sequence[int]]
) -> Iterator[Implausible]:
    """Yield an error for the liver, without which there is no case; a rater may see no lesion."""
    for name, present in measured.other_labels.items():
        kind = "liver" if name == "liver" else "lesion"
        have, count = (", ".join(map(str, values)) for values in (present, labels.get(kind, ())))
        text = (
            f"the mask is empty: the file has the label{'s' * (len(present) > 1)} {have}, and "
            f"none of data.{kind}_labels ({count})"
        )
        if kind == "liver":
            text += "; say with --liver-label which of them are the liver"
        yield Implausible(name, "error" if kind == "liver" else "warning", text)


def _mm(spacing_mm: Sequence[float]) -> str:
    return " x ".join(f"{mm:.4g}" for mm in spacing_mm)


def _range(values: Range) -> str:
    low, high = (f"{mm:.4g}" for mm in values)
    return low if low == high else f"{low} to {high}"

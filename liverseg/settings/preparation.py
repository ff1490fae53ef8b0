"""How a case is brought to the network's grid."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from liverseg.settings.identity import differing
from liverseg.settings.rules import Rule

SliceAxis = Literal["auto", "z", "y", "x"]


@dataclass(frozen=True)
class PreparationSettings:
    """How a case is brought to the network's grid (docs/method.md section 3)."""

    in_plane_mm: float = 1.0
    """Voxel size within a slice after resampling; slices keep their spacing."""
    interpolation: Literal["linear", "bspline"] = "linear"
    """In-plane interpolation of the image; masks are resampled as probabilities."""
    lower_percentile: float = 2.0
    """Grey value inside the liver that becomes 0."""
    upper_percentile: float = 98.0
    """Grey value inside the liver that becomes 1; values beyond are not clipped."""
    loss_dilation_mm: float = 10.0
    """The loss is computed inside the liver dilated in-plane by this much."""
    slice_axis: SliceAxis = "auto"
    """Axis of the patient (x to the left, y to the back, z to the head) that slices follow, which
    becomes the first of an array; auto: z, and a case whose coarsest axis is another is refused."""

    @property
    def changed(self) -> dict[str, Any]:
        """What differs from the defaults; this is part of case keys and of a dataset's digest."""
        return differing(dataclasses.asdict(self), dataclasses.asdict(PreparationSettings()))

    def rules(self) -> list[Rule]:
        """Return what a preparation needs of these values."""
        return [
            (0 < self.in_plane_mm < 100, "preparation.in_plane_mm must be from 0 to 100 mm"),
            (self.loss_dilation_mm >= 0, "preparation.loss_dilation_mm must be at least 0"),
            (
                0 <= self.lower_percentile < self.upper_percentile <= 100,
                f"preparation.lower_percentile ({self.lower_percentile}) must be below "
                f"preparation.upper_percentile ({self.upper_percentile}), both in 0..100",
            ),
        ]

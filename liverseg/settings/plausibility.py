"""What a case may look like."""

from dataclasses import dataclass

from liverseg.settings.rules import Rule, within


@dataclass(frozen=True)
class PlausibilitySettings:
    """Bounds of what a case may look like (docs/method.md section 2); no part of any id."""

    liver_ml: tuple[float, float] = (300.0, 6000.0)
    """A liver mask outside these volumes is warned of."""
    smallest_liver_ml: float = 20.0
    """A liver mask below this volume is refused."""
    lesion_share: float = 0.9
    """A rater whose lesions fill more of the liver than this is refused."""
    outside_share: float = 0.2
    """More than this share of a rater's lesion voxels outside the liver is warned of; all of them
    are refused."""
    spacing_factor: float = 1.5
    """An image to validate, test or predict whose spacing is outside the training cases' range by
    more than this factor is warned of."""
    validation_patients: int = 5
    """Fewer patients that validate, where there is no split file, are warned of."""

    def rules(self) -> list[Rule]:
        """Return what must hold for these bounds."""
        ranges = {
            "liver_ml": (0, 1e6),
            "smallest_liver_ml": (0, 1e6),
            "lesion_share": (0, 1),
            "outside_share": (0, 1),
            "spacing_factor": (1, 1000),
            "validation_patients": (0, 1_000_000),
        }
        return [
            *within("plausibility", self, ranges),
            (
                self.liver_ml[0] <= self.liver_ml[1],
                f"plausibility.liver_ml {self.liver_ml} must be from the smaller to the larger "
                "volume",
            ),
        ]

"""One training: patches, optimiser, augmentation."""

from dataclasses import dataclass

from liverseg.settings.rules import Rule, within


@dataclass(frozen=True)
class TrainingSettings:
    """One training (docs/method.md sections 5 to 8)."""

    patch: tuple[int, int, int] = (72, 236, 236)
    """Input patch (z, y, x) in voxels; must be a valid size of the network."""
    batch_size: int = 2
    """Patches per iteration."""
    learning_rate: float = 1e-3
    """Adam's."""
    lesion_fraction: float = 0.9
    """Share of patches with a lesion voxel in the output window; the others have a liver voxel."""
    dice_smoothing: float = 1e-5
    """Added to numerator and denominator of the Dice loss."""
    flip_probability: float = 0.5
    """Chance of a flip, for each axis."""
    contrast: tuple[float, float] = (0.75, 1.25)
    """Range of the factor about the patch's mean."""
    brightness_sd: float = 0.25
    """Standard deviation of the offset."""
    validation_interval: int = 500
    """Iterations between two validations; each writes a checkpoint."""
    threads: int = 1
    """CPU threads of a trainer. Part of the study, since sums round differently with another."""

    def rules(self) -> list[Rule]:
        """Return what a training needs of these values."""
        infinity = float("inf")
        ranges = {
            "patch": (1, 4096),
            "batch_size": (1, 4096),
            "learning_rate": (1e-12, 10),
            "lesion_fraction": (0, 1),
            "dice_smoothing": (0, infinity),
            "flip_probability": (0, 1),
            "contrast": (0, 100),
            "brightness_sd": (0, 100),
            "validation_interval": (1, infinity),
            "threads": (1, 4096),
        }
        return [
            *within("training", self, ranges),
            (
                self.contrast[0] <= self.contrast[1],
                f"training.contrast {self.contrast} must be from the lower to the higher factor",
            ),
        ]

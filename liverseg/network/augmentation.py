"""Augmentation on the fly: flips, contrast, brightness.

Source: paper, Methods; docs/method.md section 5.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from liverseg.core.volumes.volume import FloatArray
from liverseg.settings import TrainingSettings


@dataclass(frozen=True)
class Augmentation:
    """One drawn change."""

    flips: tuple[bool, bool, bool]
    """Along z, y, x."""
    contrast: float
    """Factor about the patch's mean."""
    brightness: float
    """Added to every voxel."""


def sample(rng: np.random.Generator, settings: TrainingSettings) -> Augmentation:
    """Draw a change: a flip per axis, contrast uniform in its range, brightness normal."""
    z, y, x = (bool(f) for f in rng.random(3) < settings.flip_probability)
    return Augmentation(
        flips=(z, y, x),
        contrast=float(rng.uniform(*settings.contrast)),
        brightness=float(rng.normal(0.0, settings.brightness_sd)),
    )


def flipped(indices: npt.NDArray[np.intp], flip: bool) -> npt.NDArray[np.intp]:
    """Return the index vector of one axis, reversed where that axis is flipped."""
    return indices[::-1] if flip else indices


def change_grey_values(patch: FloatArray, change: Augmentation) -> FloatArray:
    """Return mean + contrast (x - mean) + brightness, written into `patch`."""
    factor = np.float32(change.contrast)
    offset = np.float32((1 - change.contrast) * patch.mean(dtype=np.float64) + change.brightness)
    np.multiply(patch, factor, out=patch)
    np.add(patch, offset, out=patch)
    return patch

"""The sampler: which patch is drawn from which case, and its voxels.

Patch i of a training is a pure function of (seed, i). A sampler therefore has no state besides
the iteration, patches can be made ahead in a thread, and a resumed training sees the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from liverseg.core.data.case import PreparedCase
from liverseg.core.volumes.grid import NetworkGrid, Size
from liverseg.core.volumes.volume import FloatArray, Mask
from liverseg.errors import CaseError
from liverseg.network import augmentation
from liverseg.settings import NetworkSettings, TrainingSettings

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Patch:
    """One training example.

    `image` has the input size of the network, `lesion` and `loss_mask` its output size.
    """

    image: FloatArray
    lesion: FloatArray
    loss_mask: FloatArray


@dataclass(frozen=True)
class Batch:
    """Patches stacked: image (batch, 1, z, y, x), lesion and loss_mask (batch, z', y', x')."""

    image: FloatArray
    lesion: FloatArray
    loss_mask: FloatArray


class _Arrays(NamedTuple):
    """What the sampler keeps of a case: neither other raters nor the masks on the file's grid.

    A trainer holds all training cases in memory, and those would double it.
    """

    image: FloatArray
    lesion: Mask
    loss_mask: Mask
    lesion_voxels: npt.NDArray[np.int64]
    """Flat indices of the lesion voxels; empty in a case without lesion."""
    liver_voxels: npt.NDArray[np.int64]


def _arrays(case: PreparedCase, rater: str) -> _Arrays:
    """Take the contours of `rater`; lesion voxels outside the loss mask cannot teach."""
    lesion = case.raters[rater]
    lesion_voxels = np.flatnonzero(lesion & case.loss_mask)
    return _Arrays(case.image, lesion, case.loss_mask, lesion_voxels, np.flatnonzero(case.liver))


class PatchSampler:
    """Draws patches with at least one lesion voxel (90 %) or liver voxel in the output window."""

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        rater: str,
        network: NetworkSettings,
        training: TrainingSettings,
        seed: int,
    ) -> None:
        grid = NetworkGrid(network)
        self._cases = [_arrays(case, rater) for case in cases]
        self._with_lesion = [c for c in self._cases if c.lesion_voxels.size]
        self._training, self._seed = training, seed
        self._patch, self._halo = training.patch, grid.halo
        self._output = grid.output_size(training.patch)
        if not self._with_lesion:
            raise CaseError(f"none of the {len(self._cases)} training cases has a lesion voxel")

    def batch(self, iteration: int) -> Batch:
        """Return the batch of the iteration (from 0)."""
        size = self._training.batch_size
        patches = [self.patch(iteration * size + i) for i in range(size)]
        return Batch(
            np.stack([p.image for p in patches])[:, np.newaxis],
            np.stack([p.lesion for p in patches]),
            np.stack([p.loss_mask for p in patches]),
        )

    def patch(self, index: int) -> Patch:
        """Return the augmented patch with this index (from 0)."""
        rng = np.random.default_rng([self._seed, index])
        with_lesion = rng.random() < self._training.lesion_fraction
        pool = self._with_lesion if with_lesion else self._cases
        case = pool[int(rng.integers(len(pool)))]
        voxels = case.lesion_voxels if with_lesion else case.liver_voxels
        centre = np.unravel_index(voxels[int(rng.integers(voxels.size))], case.image.shape)
        # Every position of the output window that contains the voxel is equally likely.
        start = [int(c) - int(rng.integers(o)) for c, o in zip(centre, self._output, strict=True)]
        change = augmentation.sample(rng, self._training)
        return self._cut(case, (start[0], start[1], start[2]), change)

    def _cut(self, case: _Arrays, start: Size, change: augmentation.Augmentation) -> Patch:
        first = [s - h for s, h in zip(start, self._halo, strict=True)]
        outer = [
            augmentation.flipped(reflected_indices(f, p, n), flip)
            for f, p, n, flip in zip(
                first, self._patch, case.image.shape, change.flips, strict=True
            )
        ]
        inner = [i[h : len(i) - h] for i, h in zip(outer, self._halo, strict=True)]
        return Patch(
            augmentation.change_grey_values(gather(case.image, outer), change),
            gather(case.lesion, inner).astype(np.float32),
            gather(case.loss_mask, inner).astype(np.float32),
        )


def reflected_indices(start: int, count: int, size: int) -> npt.NDArray[np.intp]:
    """Return voxel indices for positions start .. start + count - 1 on an axis of `size` voxels.

    Outside the image, by voxel position alone: reflect up to size - 1 beyond the border, edge
    after that (docs/method.md section 5).
    """
    positions = np.arange(start, start + count).clip(-(size - 1), 2 * (size - 1))
    positions = np.abs(positions)
    indices: npt.NDArray[np.intp] = np.where(
        positions < size, positions, 2 * (size - 1) - positions
    )
    return indices


def gather(
    volume: npt.NDArray[Scalar], indices: Sequence[npt.NDArray[np.intp]]
) -> npt.NDArray[Scalar]:
    """Return a contiguous copy of volume[z, y, x] for index vectors per axis.

    Only rows that are needed are touched: z and y by plain indexing of views, x in one take.
    """
    z, y, x = indices
    low, high = int(x.min()), int(x.max()) + 1
    rows = volume[z[:, np.newaxis], y[np.newaxis, :], low:high]
    steps = x - low
    if len(steps) == high - low and np.array_equal(steps, np.arange(high - low)):
        return rows
    return np.take(rows, steps, axis=2)

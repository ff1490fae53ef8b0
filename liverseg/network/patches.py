"""The sampler: which patch is drawn from which case, and its voxels.

Patch i of a training is a pure function of (seed, i). A sampler therefore has no state besides
the iteration, patches can be made ahead in a thread, and a resumed training sees the same ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from liverseg.core.data.case import TrainingCase
from liverseg.core.volumes.grid import NetworkGrid, Size
from liverseg.core.volumes.volume import Box, FloatArray, Mask, bounding_box
from liverseg.errors import CaseError
from liverseg.network import augmentation
from liverseg.network.image_file import append, image_file, mapped
from liverseg.network.sampled_case import PackedMask, SampledCase, Voxels
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


class PatchSampler:
    """Draws patches with at least one lesion voxel (90 %) or liver voxel in the output window."""

    def __init__(
        self,
        cases: Iterable[TrainingCase],
        network: NetworkSettings,
        training: TrainingSettings,
        seed: int,
    ) -> None:
        grid = NetworkGrid(network)
        self._patch, self._halo = training.patch, grid.halo
        self._output = grid.output_size(training.patch)
        self._training, self._seed = training, seed
        with image_file() as file:
            # One whole case in memory at a time.
            self._cases = [self._kept(case, file) for case in cases]
            self._with_lesion = [c for c in self._cases if c.lesion_voxels.size]
            if not self._with_lesion:
                raise CaseError(f"none of the {len(self._cases)} training cases has a lesion voxel")
            self._images = mapped(file)

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
        voxel = voxels.flat_index(int(rng.integers(voxels.size)))
        centre = np.unravel_index(voxel, case.shape)
        # Every position of the output window that contains the voxel is equally likely.
        start = [int(c) - int(rng.integers(o)) for c, o in zip(centre, self._output, strict=True)]
        change = augmentation.sample(rng, self._training)
        return self._cut(case, (start[0], start[1], start[2]), change)

    def _kept(self, case: TrainingCase, file: BinaryIO) -> SampledCase:
        """Keep of a case what patches can reach; lesions outside the loss mask cannot teach."""
        lesion_voxels = case.lesion & case.loss_mask
        reach = self._reach(lesion_voxels | case.liver)
        z, y, x = case.image.shape
        return SampledCase(
            (z, y, x),
            append(file, case.image[reach]),
            (reach[0].start, reach[1].start, reach[2].start),
            PackedMask.of(case.lesion),
            PackedMask.of(case.loss_mask),
            Voxels.of(lesion_voxels),
            Voxels.of(case.liver),
        )

    def _reach(self, drawn: Mask) -> Box:
        """Return the box of the image from which patches around these voxels are cut."""
        box = bounding_box(drawn)
        assert box is not None, "a case without liver is refused when it is prepared"
        z, y, x = (
            _extent(
                reflected_indices(
                    around.start - output + 1 - halo,
                    around.stop - around.start + 2 * (output - 1 + halo),
                    size,
                )
            )
            for around, output, halo, size in zip(
                box, self._output, self._halo, drawn.shape, strict=True
            )
        )
        return z, y, x

    def _cut(self, case: SampledCase, start: Size, change: augmentation.Augmentation) -> Patch:
        first = [s - h for s, h in zip(start, self._halo, strict=True)]
        outer = [
            augmentation.flipped(reflected_indices(f, p, n), flip)
            for f, p, n, flip in zip(first, self._patch, case.shape, change.flips, strict=True)
        ]
        inner = [i[h : len(i) - h] for i, h in zip(outer, self._halo, strict=True)]
        volume = case.image.view(self._images)
        image = gather(volume, [i - s for i, s in zip(outer, case.start, strict=True)])
        return Patch(
            augmentation.change_grey_values(image, change),
            case.lesion.gather(inner).astype(np.float32),
            case.loss_mask.gather(inner).astype(np.float32),
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


def _extent(indices: npt.NDArray[np.intp]) -> slice:
    return slice(int(indices.min()), int(indices.max()) + 1)


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

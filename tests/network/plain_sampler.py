"""The sampler with whole volumes and the index of every voxel: the reference of the tests."""

from collections.abc import Sequence

import numpy as np

from liverseg.core.data.case import TrainingCase
from liverseg.core.volumes.grid import NetworkGrid
from liverseg.network import augmentation
from liverseg.network.patches import Patch, gather, reflected_indices
from liverseg.settings import Settings


class PlainSampler:
    """Draws as `PatchSampler` does."""

    def __init__(self, cases: Sequence[TrainingCase], settings: Settings, seed: int) -> None:
        grid = NetworkGrid(settings.network)
        self._cases = [
            (c, np.flatnonzero(c.lesion & c.loss_mask), np.flatnonzero(c.liver)) for c in cases
        ]
        self._with_lesion = [kept for kept in self._cases if kept[1].size]
        self._training, self._seed = settings.training, seed
        self._patch, self._halo = settings.training.patch, grid.halo
        self._output = grid.output_size(settings.training.patch)

    def patch(self, index: int) -> Patch:
        rng = np.random.default_rng([self._seed, index])
        with_lesion = rng.random() < self._training.lesion_fraction
        pool = self._with_lesion if with_lesion else self._cases
        case, lesion_voxels, liver_voxels = pool[int(rng.integers(len(pool)))]
        voxels = lesion_voxels if with_lesion else liver_voxels
        centre = np.unravel_index(voxels[int(rng.integers(voxels.size))], case.image.shape)
        start = [int(c) - int(rng.integers(o)) for c, o in zip(centre, self._output, strict=True)]
        change = augmentation.sample(rng, self._training)
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

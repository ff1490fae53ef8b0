"""Which tiles a prediction needs: only where liver is, on the network's alignment grid.

Pooling makes a result depend on where a tile starts. Offsets that are multiples of the alignment
counted from voxel (0, 0, 0) make any tiling equal one big pass (docs/method.md section 11).
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from liverseg.core.volumes.grid import NetworkGrid, Size
from liverseg.core.volumes.volume import Mask


@dataclass(frozen=True)
class Tile:
    """An output window: first voxel and size (z, y, x). It may reach beyond the volume."""

    start: Size
    size: Size


def plan_tiles(liver: Mask, grid: NetworkGrid, fits: Callable[[Size], bool]) -> tuple[Tile, ...]:
    """Return tiles that cover every liver voxel, as few and as small as the budget allows.

    Args:
        liver: (z, y, x); an empty one needs no tile.
        grid: Sizes and alignment of the network.
        fits: Tells whether an output size fits into memory; the smallest one is always taken.
    """
    box = _aligned_box(liver, (0, 0, 0), grid)
    if box is None:
        return ()
    start, size = box
    step = _largest_step(size, grid, fits)
    tiles = []
    for offset in itertools.product(*(range(0, size[a], step[a]) for a in range(3))):
        first = _add(start, (offset[0], offset[1], offset[2]))
        window = tuple(
            slice(f, min(f + s, b + e)) for f, s, b, e in zip(first, step, start, size, strict=True)
        )
        inner = _aligned_box(liver[window], first, grid)
        if inner is not None:
            tiles.append(Tile(inner[0], grid.next_output(inner[1])))
    return tuple(tiles)


def _aligned_box(liver: Mask, origin: Size, grid: NetworkGrid) -> tuple[Size, Size] | None:
    """Return (start, size) of the liver's box, its start moved down to the alignment grid."""
    starts, sizes = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        planes = np.flatnonzero(liver.any(axis=others))
        if planes.size == 0:
            return None
        first, last = int(planes[0]) + origin[axis], int(planes[-1]) + origin[axis]
        start = first - first % grid.alignment[axis]
        starts.append(start)
        sizes.append(last + 1 - start)
    return (starts[0], starts[1], starts[2]), (sizes[0], sizes[1], sizes[2])


def _largest_step(size: Size, grid: NetworkGrid, fits: Callable[[Size], bool]) -> Size:
    """Halve the axis that wastes least until a tile fits; steps are multiples of the alignment."""
    parts = [1, 1, 1]
    while True:
        step = _step(size, parts, grid)
        if fits(grid.next_output(step)):
            return step
        splittable = [a for a in range(3) if step[a] > grid.alignment[a]]
        if not splittable:
            return step
        # The halo is computed once per tile: split where the tile is long beside its halo.
        axis = max(splittable, key=lambda a: step[a] / (step[a] + 2 * grid.halo[a]))
        parts[axis] += 1


def _step(size: Size, parts: list[int], grid: NetworkGrid) -> Size:
    z, y, x = (-(-s // (p * a)) * a for s, p, a in zip(size, parts, grid.alignment, strict=True))
    return z, y, x


def _add(first: Size, second: Size) -> Size:
    return first[0] + second[0], first[1] + second[1], first[2] + second[2]

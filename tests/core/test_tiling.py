import numpy as np
import pytest

from liverseg.core.volumes.grid import NetworkGrid, Size
from liverseg.core.volumes.tiling import plan_tiles
from liverseg.settings import NetworkSettings

GRID = NetworkGrid(NetworkSettings())


def liver(seed: int = 0) -> np.ndarray:
    mask = np.zeros((30, 200, 180), dtype=bool)
    mask[5:25, 31:150, 40:161] = True
    mask[5:20, 31:80, 40:110] = False
    return mask & (np.random.default_rng(seed).random(mask.shape) < 0.5)


def smaller_than(voxels: int) -> object:
    def fits(output: Size) -> bool:
        return output[0] * output[1] * output[2] <= voxels

    return fits


@pytest.mark.parametrize("voxels", [1, 20_000, 100_000, 10**9])
def test_tiles_cover_every_liver_voxel_on_aligned_offsets(voxels: int) -> None:
    mask = liver()
    covered = np.zeros_like(mask)
    for tile in plan_tiles(mask, GRID, smaller_than(voxels)):
        assert all(s % a == 0 for s, a in zip(tile.start, GRID.alignment, strict=True))
        assert GRID.input_size(tile.size)
        covered[tuple(slice(s, s + n) for s, n in zip(tile.start, tile.size, strict=True))] = True
    assert covered[mask].all()


def test_a_budget_limits_the_tile() -> None:
    tiles = plan_tiles(liver(), GRID, smaller_than(100_000))
    assert all(np.prod(t.size) <= 100_000 for t in tiles)


def test_one_tile_is_enough_when_memory_is() -> None:
    assert len(plan_tiles(liver(), GRID, lambda size: True)) == 1


def test_no_liver_needs_no_tile() -> None:
    assert plan_tiles(np.zeros((4, 20, 20), dtype=bool), GRID, lambda size: True) == ()


def test_tiles_without_liver_are_left_out() -> None:
    mask = np.zeros((8, 300, 300), dtype=bool)
    mask[:, :20, :20] = mask[:, 280:, 280:] = True
    assert len(plan_tiles(mask, GRID, smaller_than(8 * 100 * 100))) == 2

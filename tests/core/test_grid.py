import pytest

from liverseg.core.volumes.grid import NetworkGrid
from liverseg.errors import SettingsError
from liverseg.settings import PRESETS, NetworkSettings

PAPER = NetworkGrid(NetworkSettings())


def test_the_paper_s_patch_gives_52_by_52_by_32() -> None:
    assert PAPER.output_size((72, 236, 236)) == (32, 52, 52)
    assert PAPER.input_size((32, 52, 52)) == (72, 236, 236)


def test_the_paper_s_halo_is_92_by_92_by_20() -> None:
    assert PAPER.halo == (20, 92, 92)


def test_tiles_of_the_paper_s_network_align_to_16_by_16_by_4() -> None:
    assert PAPER.alignment == (4, 16, 16)


@pytest.mark.parametrize("k", range(5))
def test_valid_sizes_are_188_plus_16k_in_plane_and_44_plus_4k_between_slices(k: int) -> None:
    assert PAPER.output_size((44 + 4 * k, 188 + 16 * k, 188 + 16 * k)) == (
        4 + 4 * k,
        4 + 16 * k,
        4 + 16 * k,
    )


@pytest.mark.parametrize("patch", [(72, 236, 237), (73, 236, 236), (40, 188, 188), (44, 172, 188)])
def test_any_other_size_is_refused_with_the_valid_ones(patch: tuple[int, int, int]) -> None:
    with pytest.raises(SettingsError, match=r"\(44, 188, 188\) plus multiples of \(4, 16, 16\)"):
        PAPER.output_size(patch)


def test_a_paper_patch_needs_most_memory_between_the_first_two_convolutions() -> None:
    before, after = (16 * 72 * size**2 for size in (234, 232))
    assert PAPER.peak_values((72, 236, 236)) == before + after


def test_the_next_output_covers_what_is_wanted() -> None:
    assert PAPER.next_output((24, 140, 160)) == (24, 148, 164)
    assert PAPER.next_output((1, 1, 1)) == PAPER.smallest_output


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_s_patch_is_a_valid_size(name: str) -> None:
    settings = PRESETS[name]
    output = NetworkGrid(settings.network).output_size(settings.training.patch)
    assert NetworkGrid(settings.network).input_size(output) == settings.training.patch

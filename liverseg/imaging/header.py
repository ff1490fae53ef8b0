"""What a file says about its voxels and where they lie, whatever its format."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from liverseg.errors import CaseError

LONGEST_HEADER = 1 << 22
LARGEST_VOXELS = 1 << 28
"""1024 slices of 512 x 512. A header that announces more is damaged or was made to do harm."""

Encoding = Literal["raw", "deflate", "text"]
Triple = tuple[float, float, float]
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?(?:nan|inf)", re.I)


@dataclass(frozen=True)
class Header:
    """One volume with one value per voxel."""

    size: tuple[int, int, int]
    """Voxels (x, y, z); x is the fastest in the file."""
    dtype: np.dtype[Any]
    """Of a stored value, with its byte order."""
    spacing_mm: Triple
    """Distance of voxel centres (x, y, z)."""
    origin_mm: Triple
    """Centre of the first voxel as (x, y, z) in LPS."""
    direction: tuple[float, ...]
    """Row-major 3 x 3; columns times spacing are the steps of the grid in LPS."""
    offset: int | None = 0
    """Bytes before the voxels, which are in the unpacked file of NIfTI; None: the voxels are the
    file's last bytes."""
    encoding: Encoding = "raw"
    packed_bytes: int = 0
    """How many bytes its compressed voxels have; 0: it says nothing of that."""
    slope: float = 1.0
    """A grey value is the stored value times this, plus `intercept`."""
    intercept: float = 0.0

    @property
    def voxels(self) -> int:
        """How many voxels it has."""
        return math.prod(self.size)

    @property
    def voxel_bytes(self) -> int:
        """How many bytes they take without compression."""
        return self.voxels * self.dtype.itemsize


def volume_size(name: str, sizes: Sequence[int]) -> tuple[int, int, int]:
    """Return voxels (x, y, z); axes after the third must have one voxel.

    Raises CaseError where this is no volume, more than one, or one that is impossibly large.
    """
    if any(extent < 1 for extent in sizes):
        raise CaseError(f"'{name}' is damaged: its header announces {times(sizes)} voxels")
    volumes = math.prod(sizes[3:])
    if len(sizes) < 3 or min(sizes[:3]) < 2:
        raise CaseError(f"'{name}' is not a volume: it has {times(sizes)} voxels (x, y, ...)")
    if volumes > 1:
        raise CaseError(
            f"'{name}' has {volumes} volumes of {times(sizes[:3])} voxels; one is needed: save it "
            "as a file of its own"
        )
    if math.prod(sizes[:3]) > LARGEST_VOXELS:
        raise CaseError(
            f"'{name}' announces {times(sizes[:3])} voxels, which is more than {LARGEST_VOXELS}"
        )
    return sizes[0], sizes[1], sizes[2]


def one_value(name: str, values: int, kind: str) -> None:
    """Raise CaseError where a voxel has several values, such as a colour."""
    if values != 1:
        raise CaseError(f"'{name}' has {values} values a voxel ({kind}); one is needed")


def numbers(name: str, field: str, words: Sequence[str], count: int | None = None) -> list[float]:
    """Return the numbers of a text header's field; raises CaseError unless there are `count`."""
    if not all(_NUMBER.fullmatch(word) for word in words) or count not in (None, len(words)):
        expected = "numbers" if count is None else f"{count} numbers"
        raise CaseError(f"'{name}' is damaged: '{field}' is '{_short(words)}', not {expected}")
    values = [float(word) for word in words]
    if any(map(math.isinf, values)):
        raise CaseError(f"'{name}' is damaged: '{field}' is '{_short(words)}', which is infinite")
    return values


def whole_numbers(
    name: str, field: str, words: Sequence[str], count: int | None = None
) -> list[int]:
    """Return the whole numbers of a text header's field; raises CaseError as `numbers` does."""
    values = numbers(name, field, words, count)
    if not all(value.is_integer() for value in values):
        raise CaseError(f"'{name}' is damaged: '{field}' is '{_short(words)}', not whole numbers")
    return [int(value) for value in values]


def times(size: Sequence[int]) -> str:
    """Return sizes as they are written in messages: 48 x 40 x 8."""
    return " x ".join(str(extent) for extent in size)


def _short(words: Sequence[str]) -> str:
    text = " ".join(words)
    return text if len(text) <= 60 else f"{text[:60]}..."

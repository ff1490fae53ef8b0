"""Whether a file holds all its voxels: ITK reads a truncated NIfTI file without a word.

It fills the missing voxels of NIfTI, and those after a damaged byte of a compressed MetaImage,
with whatever lay in memory, and puts 0 where a NIfTI file has NaN. So lengths, checksums and
NaN are looked at here, before ITK reads.
"""

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from liverseg.errors import CaseError

_CHUNK = 1 << 20  # a multiple of every voxel's size
_NIFTI1_HEADER, _NIFTI2_HEADER = 348, 540
_FLOATS = {16: "f4", 64: "f8"}  # NIfTI's datatype codes
_LONGEST_HEADER = 1 << 16
_DATA_FILE = re.compile(rb"^(?:ElementDataFile[ \t]*=|data ?file:)[ \t]*(.*?)[ \t]*\r?\n", re.M)
_COMPRESSED = re.compile(rb"^CompressedData[ \t]*=[ \t]*True", re.M | re.I)


@dataclass(frozen=True)
class _NiftiHeader:
    offset: int
    """Where the voxels begin."""
    voxel_bytes: int
    floats: np.dtype[np.floating[Any]] | None
    """None where voxels are whole numbers."""


def chunks(path: Path) -> Iterator[bytes]:
    """Yield the file's bytes, a megabyte at a time."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def data_file(path: Path) -> Path | None:
    """Return the file beside an .mhd or detached .nrrd header that holds the voxels, or None."""
    if path.suffix not in (".mhd", ".mha", ".nrrd"):
        return None
    with path.open("rb") as file:
        found = _DATA_FILE.search(file.read(_LONGEST_HEADER))
    name = found.group(1).decode(errors="replace") if found else "LOCAL"
    if name.upper() == "LOCAL":
        return None
    if name.upper().startswith("LIST") or "%" in name:
        raise CaseError(f"'{path.name}' spreads its voxels over several files; join them into one")
    return path.parent / name


def check_complete(path: Path) -> int:
    """Raise CaseError if the file is truncated or damaged.

    Returns how many voxels of a NIfTI file are NaN or infinite, which ITK would hide; 0 for
    other formats, where it does not.
    """
    try:
        if path.name.endswith((".nii", ".nii.gz")):
            return _check_nifti(path)
        if path.suffix in (".mha", ".mhd"):
            _check_meta_image(path)
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise CaseError(f"'{path.name}' is truncated or damaged: {error}") from error
    return 0


def _check_nifti(path: Path) -> int:
    """Go through all (unpacked) bytes once: how many there are, and how many are no numbers."""
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rb") as file:
        header = _nifti_header(file.read(_NIFTI2_HEADER), path)
        file.seek(header.offset)
        found = wrong = 0
        while chunk := file.read(_CHUNK):  # to the end: the checksum of a gzip file comes last
            if header.floats is not None:
                whole = chunk[: len(chunk) - len(chunk) % header.floats.itemsize]
                values = np.frombuffer(whole, header.floats)
                wrong += int(values.size - np.isfinite(values).sum())
            found += len(chunk)
    if found < header.voxel_bytes:
        raise CaseError(
            f"'{path.name}' is truncated: {found} bytes of voxels instead of {header.voxel_bytes}"
        )
    return wrong


def _nifti_header(data: bytes, path: Path) -> _NiftiHeader:
    """Read what is needed of a NIfTI-1 (348 bytes) or NIfTI-2 (540 bytes) header."""
    for order in "<>":
        (size,) = struct.unpack_from(order + "i", data)
        if size == _NIFTI1_HEADER:
            dims = struct.unpack_from(order + "8h", data, 40)
            datatype, bits = struct.unpack_from(order + "2h", data, 70)
            (offset,) = struct.unpack_from(order + "f", data, 108)
        elif size == _NIFTI2_HEADER:
            dims = struct.unpack_from(order + "8q", data, 16)
            datatype, bits = struct.unpack_from(order + "2h", data, 12)
            (offset,) = struct.unpack_from(order + "q", data, 168)
        else:
            continue
        voxels = math.prod(dims[1 : 1 + dims[0]])
        floats = np.dtype(order + _FLOATS[datatype]) if datatype in _FLOATS else None
        return _NiftiHeader(int(offset), voxels * bits // 8, floats)
    raise CaseError(f"'{path.name}' is not a NIfTI file: its header says neither 348 nor 540")


def _check_meta_image(path: Path) -> None:
    """Unpack compressed voxels once; ITK itself notices only when some are missing."""
    with path.open("rb") as file:
        header = file.read(_LONGEST_HEADER)
    found = _DATA_FILE.search(header)
    if found is None or not _COMPRESSED.search(header[: found.end()]):
        return
    separate = data_file(path)
    stream, skip = zlib.decompressobj(), 0 if separate else found.end()
    for chunk in chunks(separate or path):
        stream.decompress(chunk[skip:])
        skip = max(0, skip - len(chunk))
    if not stream.eof:
        raise CaseError(f"'{path.name}' is truncated: its compressed voxels have no end")

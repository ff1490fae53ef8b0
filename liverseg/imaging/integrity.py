"""Whether a file holds all its voxels: ITK reads a truncated NIfTI file without an error.

It fills the missing voxels of NIfTI, and those after a damaged byte of a compressed MetaImage,
with whatever lay in memory, and puts 0 where a NIfTI file has NaN. So lengths, checksums and
NaN are looked at here, while the bytes are on their way to ITK.
"""

import gzip
import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from liverseg.errors import CaseError
from liverseg.imaging.stored_file import DATA_FILE, LONGEST_HEADER, StoredFile

_CHUNK = 1 << 20
_NIFTI1_HEADER, _NIFTI2_HEADER = 348, 540
_FLOATS = {16: "f4", 64: "f8"}  # NIfTI's datatype codes
_COMPRESSED = re.compile(rb"^CompressedData[ \t]*=[ \t]*True", re.M | re.I)
_VOXELS = "voxels"


@dataclass(frozen=True)
class _NiftiHeader:
    offset: int
    """Where the voxels begin."""
    voxel_bytes: int
    floats: np.dtype[np.floating[Any]] | None
    """None where voxels are whole numbers."""


def check_complete(file: StoredFile) -> int:
    """Raise CaseError if the file is truncated or damaged.

    Returns how many voxels of a NIfTI file are NaN or infinite, which ITK would hide; 0 for
    other formats, where it does not.
    """
    with Path(os.devnull).open("wb") as nowhere:
        return _check(file, nowhere)


def unpack(file: StoredFile, folder: Path) -> tuple[Path, int]:
    """Check a file as `check_complete` does and write it into an empty folder, for ITK to read.

    The bytes of a .nii.gz are written as the check has unpacked them. Returns the path, and what
    `check_complete` returns. Raises CaseError, and OSError where the folder cannot be written.
    """
    suffix = ".nii" if _is_nifti(file.path) else file.path.suffix
    path = folder / f"volume{suffix}"
    with path.open("wb") as target:
        not_finite = _check(file, target)
    if file.voxels is not None:
        (folder / _VOXELS).write_bytes(file.voxels)
    return path, not_finite


def _check(file: StoredFile, target: BinaryIO) -> int:
    """Check the file while its bytes go to `target`; the header names `_VOXELS` for others."""
    try:
        if _is_nifti(file.path):
            return _check_nifti(file, target)
        if file.path.suffix in (".mha", ".mhd"):
            _check_meta_image(file)
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise CaseError(f"'{file.path.name}' is truncated or damaged: {error}") from error
    header = file.content
    if file.voxels is not None:
        field = DATA_FILE.search(header)
        assert field is not None, "a file without this field has no other file of voxels"
        header = header[: field.start(1)] + _VOXELS.encode() + header[field.end(1) :]
    target.write(header)
    return 0


def _is_nifti(path: Path) -> bool:
    return path.name.endswith((".nii", ".nii.gz"))


def _check_nifti(file: StoredFile, target: BinaryIO) -> int:
    """Go through all (unpacked) bytes once: how many there are, and how many are no numbers."""
    chunks = _unpacked(file)
    chunk = next(chunks, b"")
    header = _nifti_header(chunk, file.path)
    skip, rest, voxel_bytes, not_finite = header.offset, b"", 0, 0
    while chunk:  # to the end: the checksum of a gzip file comes last
        target.write(chunk)
        data, skip = chunk[skip:], max(0, skip - len(chunk))
        voxel_bytes += len(data)
        if header.floats is not None:
            data = rest + data
            whole = len(data) - len(data) % header.floats.itemsize
            values, rest = np.frombuffer(data[:whole], header.floats), data[whole:]
            not_finite += int(values.size - np.isfinite(values).sum())
        chunk = next(chunks, b"")
    if voxel_bytes < header.voxel_bytes:
        raise CaseError(
            f"'{file.path.name}' is truncated: {voxel_bytes} bytes of voxels instead of "
            f"{header.voxel_bytes}"
        )
    return not_finite


def _unpacked(file: StoredFile) -> Iterator[bytes]:
    """Yield the bytes of a NIfTI file without gzip, a megabyte at a time."""
    stored = BytesIO(file.content)
    with gzip.GzipFile(fileobj=stored) if file.path.name.endswith(".gz") else stored as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


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
        if not 0 <= offset < math.inf:
            raise CaseError(f"'{path.name}' is damaged: its voxels begin at byte {offset:g}")
        return _NiftiHeader(int(offset), voxels * bits // 8, floats)
    raise CaseError(f"'{path.name}' is not a NIfTI file: its header says neither 348 nor 540")


def _check_meta_image(file: StoredFile) -> None:
    """Unpack compressed voxels once; ITK itself notices only when some are missing."""
    header = file.content[:LONGEST_HEADER]
    field = DATA_FILE.search(header)
    if field is None or not _COMPRESSED.search(header[: field.end()]):
        return
    packed = file.content[field.end() :] if file.voxels is None else file.voxels
    stream = zlib.decompressobj()
    for start in range(0, len(packed), _CHUNK):
        stream.decompress(packed[start : start + _CHUNK])
    if not stream.eof:
        raise CaseError(f"'{file.path.name}' is truncated: its compressed voxels have no end")

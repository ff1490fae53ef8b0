"""The voxels of a file, all of them and nothing else: none is made up, none is padding.

Bytes are counted and checksums compared here, since ITK fills what is missing with whatever lay
in memory. Nothing is allocated that the file's own size does not warrant.
"""

import warnings
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from liverseg.errors import CaseError
from liverseg.imaging import meta_image, nifti, nrrd
from liverseg.imaging.header import LONGEST_HEADER, Header
from liverseg.imaging.stored_file import StoredFile
from liverseg.imaging.suffixes import suffix_of

_CHUNK = 1 << 18
_BEST_RATIO = 1032  # of deflate: 258 bytes in two bits
_ANY_WRAPPER = 47  # wbits: zlib or gzip
_GZIP = b"\x1f\x8b"
_HEADERS = {".nrrd": nrrd.header, ".mha": meta_image.header, ".mhd": meta_image.header}


def header_of(file: StoredFile) -> Header:
    """Return what a file's header says; the file's beginning suffices.

    Raises CaseError, naming the file, where it cannot be used.
    """
    suffix, data = suffix_of(file.path), file.content[:LONGEST_HEADER]
    if suffix == ".nii.gz":
        data = _beginning(file.path.name, data)
    return _HEADERS.get(suffix, nifti.header)(file.path.name, data)


def decoded_voxels(file: StoredFile, header: Header) -> npt.NDArray[Any]:
    """Return a file's grey values (z, y, x): its own numbers, or float32 where they are scaled.

    Raises CaseError where there are fewer or more bytes than the voxels take, or damaged ones.
    """
    stored = np.frombuffer(_voxel_bytes(file, header), header.dtype)
    array = stored.astype(header.dtype.newbyteorder("="), copy=False).reshape(header.size[::-1])
    if (header.slope, header.intercept) == (1.0, 0.0):
        return array
    with np.errstate(all="ignore"):  # what becomes infinite is refused later
        # As ITK does: through float32, which is what is kept.
        kept = array if array.dtype == np.float64 else array.astype(np.float32)
        scaled = kept.astype(np.float64) * header.slope + header.intercept
        return scaled.astype(kept.dtype)


def unpacked(file: StoredFile) -> bytes:
    """Return the bytes of a whole NIfTI file without gzip."""
    if suffix_of(file.path) == ".nii":
        return file.content
    header = header_of(file)
    before = header.offset or 0
    return _inflated(file.path.name, file.content, before + header.voxel_bytes, before)


def _voxel_bytes(file: StoredFile, header: Header) -> memoryview:
    """Return exactly the bytes of the voxels, without compression."""
    name, needed = file.path.name, header.voxel_bytes
    source = memoryview(file.content if file.voxels is None else file.voxels)
    if suffix_of(file.path) == ".nii.gz":
        return memoryview(unpacked(file))[-needed:]
    begin = len(source) - needed if header.offset is None else header.offset
    packed = source[max(0, begin) :]
    if header.packed_bytes:
        _check_length(name, len(packed), header.packed_bytes, "compressed voxels")
    if header.encoding == "deflate":
        return memoryview(_inflated(name, packed, needed))
    if header.encoding == "text":
        return memoryview(_from_text(name, bytes(packed), header))
    _check_length(name, len(packed), needed)
    return packed


def _check_length(name: str, present: int, needed: int, of: str = "voxels") -> None:
    if present < needed:
        raise CaseError(
            f"'{name}' is truncated: {present} bytes of {of} instead of {needed}; copy it again"
        )
    if present > needed:
        raise CaseError(
            f"'{name}' has {present - needed} bytes after its {needed} bytes of {of}, which "
            "nothing in its header explains; copy or save it again"
        )


def _beginning(name: str, data: bytes) -> bytes:
    """Return the first kilobyte of a gzip file's content, of as many members as that takes."""
    content = b""
    while data and len(content) < 1024:
        stream = zlib.decompressobj(_ANY_WRAPPER)
        try:
            content += stream.decompress(data, 1024 - len(content))
        except zlib.error as error:
            if content:  # what follows the first member is looked at with the voxels
                break
            raise CaseError(f"'{name}' is damaged: {error}; copy it again") from error
        data = stream.unused_data
    return content


def _inflated(name: str, packed: bytes | memoryview, needed: int, before: int = 0) -> bytes:
    """Return compressed bytes unpacked, if they are as many as needed.

    Args:
        name: Of the file.
        packed: One gzip or zlib stream, or several of gzip.
        needed: Bytes without compression; no more than one above them is ever unpacked.
        before: How many of them are no voxels.
    """
    if needed > _BEST_RATIO * len(packed):
        raise CaseError(
            f"'{name}' is truncated: {len(packed)} compressed bytes cannot hold {needed}; copy it "
            "again"
        )
    chunks: list[bytes] = []
    stream, room = zlib.decompressobj(_ANY_WRAPPER), needed
    for start in range(0, len(packed), _CHUNK):
        data = bytes(packed[start : start + _CHUNK])
        while data:
            if stream.eof:
                if not data.startswith(_GZIP[: len(data)]):
                    rest = len(data) + max(0, len(packed) - start - _CHUNK)
                    raise CaseError(
                        f"'{name}' has {rest} bytes after its compressed data, which are no part "
                        "of it; copy or save it again"
                    )
                stream = zlib.decompressobj(_ANY_WRAPPER)
            try:
                chunks.append(stream.decompress(data, room + 1))
            except zlib.error as error:
                raise CaseError(f"'{name}' is damaged: {error}; copy it again") from error
            data, room = stream.unused_data, room - len(chunks[-1])
            if room < 0:
                raise CaseError(
                    f"'{name}' has more bytes than the {needed - before} of its voxels, which "
                    "nothing in its header explains; copy or save it again"
                )
    _check_length(name, max(0, needed - room - before), needed - before)
    if not stream.eof:
        raise CaseError(f"'{name}' is truncated: its compressed data have no end; copy it again")
    return b"".join(chunks)


def _from_text(name: str, text: bytes, header: Header) -> bytes:
    """Return the bytes that numbers written in ASCII stand for."""
    try:
        with warnings.catch_warnings(action="error"), np.errstate(all="ignore"):
            numbers = np.fromstring(text, np.float64, sep=" ")
            stored = numbers.astype(header.dtype)
    except (DeprecationWarning, ValueError) as error:
        raise CaseError(f"'{name}' is damaged: its voxels are not numbers") from error
    if numbers.size != header.voxels:
        raise CaseError(f"'{name}' has {numbers.size} numbers instead of {header.voxels} voxels")
    if header.dtype.kind in "iu" and (stored != numbers).any():
        raise CaseError(f"'{name}' is damaged: its voxels are not all of its type {header.dtype}")
    return stored.tobytes()

"""A volume's file as it lies on the disk: its bytes, read once, to be hashed and then decoded.

What is decoded is what was hashed, even where the file changes meanwhile.
"""

import os
import stat
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from liverseg.errors import CaseError
from liverseg.imaging import meta_image, nrrd
from liverseg.imaging.header import LARGEST_VOXELS, LONGEST_HEADER
from liverseg.imaging.suffixes import suffix_of, why_not_read

_GZIP = b"\x1f\x8b"
_LARGEST_BYTES = 8 * LARGEST_VOXELS + LONGEST_HEADER
# What stands in a file's place until its content is fetched, and the command that does it.
_POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("Git LFS", "git lfs pull"),
    b"annex/objects/": ("git-annex", "git annex get"),
}


@dataclass(frozen=True)
class StoredFile:
    """The bytes of one volume."""

    path: Path
    content: bytes
    voxels: bytes | None = None
    """Those of the file that an .mhd or detached .nrrd header names."""

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of all bytes, the header's first."""
        state = sha256(self.content)
        state.update(self.voxels or b"")
        return state.hexdigest()


def load(path: Path) -> StoredFile:
    """Return a file's bytes; the only place where a volume's file is opened to be read.

    Raises CaseError, naming the file, if it or the file of its voxels is no file, is empty, was
    not downloaded, is of another format than its name says, or cannot be read.
    """
    content = _bytes(path)
    _check_beginning(path, content[:LONGEST_HEADER])
    separate = _named_in(path, content[:LONGEST_HEADER])
    if separate is None:
        return StoredFile(path, content)
    if not _is_file(separate):
        if os.path.exists(separate) and not os.path.isdir(separate):  # noqa: PTH110, PTH112
            raise CaseError(f"'{path.name}' cannot be read: {_why_no_file(separate)}")
        raise CaseError(
            f"'{path.name}' cannot be read: its raw file {_printable(separate.name)} is missing "
            f"in '{separate.parent}'; copy it there"
        )
    return StoredFile(path, content, _bytes(separate))


def load_beginning(path: Path) -> StoredFile:
    """Return the beginning of a file, which has its header.

    Raises CaseError as `load` does.
    """
    beginning = _bytes(path, LONGEST_HEADER)
    _check_beginning(path, beginning)
    return StoredFile(path, beginning)


def data_file(path: Path) -> Path | None:
    """Return the file beside an .mhd or detached .nrrd header that holds the voxels, or None.

    Raises CaseError where there are several.
    """
    return _named_in(path, load_beginning(path).content)


def _check_beginning(path: Path, beginning: bytes) -> None:
    """Raise CaseError where a file holds something else than its name promises."""
    name, suffix = path.name, suffix_of(path)
    if not suffix:
        raise CaseError(why_not_read(path))
    if not beginning:
        raise CaseError(f"'{name}' is empty; copy it again")
    for mark, (kind, command) in _POINTERS.items():
        if mark in beginning[:512] and len(beginning) < 4096:
            raise CaseError(
                f"'{name}' was not downloaded: it is a {kind} pointer; fetch it with `{command}`"
            )
    if suffix == ".nii.gz" and not beginning.startswith(_GZIP):
        raise CaseError(
            f"'{name}' is not gzip-compressed although its name ends with .nii.gz; compress it, or "
            "call it .nii if it is a NIfTI file"
        )
    if suffix != ".nii.gz" and beginning.startswith(_GZIP):
        raise CaseError(
            f"'{name}' is gzip-compressed although its name ends with {suffix}; "
            + ("call it .nii.gz" if suffix == ".nii" else "unpack it with gunzip")
        )


def _named_in(path: Path, header: bytes) -> Path | None:
    """Return the file that a header says has its voxels, None where they follow it."""
    match suffix_of(path):
        case ".mha" | ".mhd":
            name = meta_image.fields(path.name, header)[0][meta_image.DATA_FILE]
        case ".nrrd":
            name = nrrd.fields(path.name, header)[0].get(nrrd.DATA_FILE, "LOCAL")
        case _:
            return None
    if name.upper() == "LOCAL":
        return None
    if name.upper().startswith("LIST") or "%" in name:
        raise CaseError(f"'{path.name}' spreads its voxels over several files; join them into one")
    if "\0" in name:
        raise CaseError(f"'{path.name}' is damaged: its raw file is called {name[:60]!r}")
    return path.parent / os.fsdecode(name.encode("latin-1"))


def _bytes(path: Path, most: int = -1) -> bytes:
    """Return a file's bytes, or `most` of them; raises CaseError where that is impossible."""
    if not _is_file(path):
        raise CaseError(_why_no_file(path))
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _LARGEST_BYTES:
                raise CaseError(
                    f"'{path.name}' has {size} bytes; at most {_LARGEST_BYTES} are read"
                )
            return file.read(most)
    except OSError as error:
        raise CaseError(f"'{path.name}' cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise CaseError(f"'{path.name}' does not fit into memory: {error}") from error


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113  # Path.is_file raises for a name that is too long


def _why_no_file(path: Path) -> str:
    if os.path.isdir(path):  # noqa: PTH112
        return f"'{path.name or path}' is a folder; give the file in it"
    if os.path.exists(path):  # noqa: PTH110
        return f"'{path.name}' is not a regular file, but {_kind(path)}; copy its content into one"
    if not os.path.islink(path):  # noqa: PTH114
        return f"'{path.name}' does not exist in '{path.parent}'"
    target = os.readlink(path)  # noqa: PTH115
    if "annex/objects" in target:
        return (
            f"'{path.name}' was not downloaded: it is a git-annex link; fetch it with "
            "`git annex get`"
        )
    return f"'{path.name}' is a link to '{target}', which does not exist"


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _printable(name: str) -> str:
    """Return a name that any terminal can show, whatever bytes a header has."""
    return name.encode(errors="replace").decode()

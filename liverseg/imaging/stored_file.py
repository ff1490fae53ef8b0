"""A volume's file as it lies on the disk: its bytes, read once, to be hashed and then decoded.

What is decoded is what was hashed, even where the file changes meanwhile.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from liverseg.errors import CaseError

LONGEST_HEADER = 1 << 16
DATA_FILE = re.compile(rb"^(?:ElementDataFile[ \t]*=|data ?file:)[ \t]*(.*?)[ \t]*\r?\n", re.M)


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

    Raises CaseError, naming the file, if it or the file of its voxels cannot be read.
    """
    if not path.is_file():
        raise CaseError(f"'{path.name}' does not exist in '{path.parent}'")
    content = _bytes(path)
    separate = _named_in(path, content[:LONGEST_HEADER])
    if separate is None:
        return StoredFile(path, content)
    if not separate.is_file():
        raise CaseError(
            f"'{path.name}' says that '{separate}' holds its voxels; there is no such file"
        )
    return StoredFile(path, content, _bytes(separate))


def data_file(path: Path) -> Path | None:
    """Return the file beside an .mhd or detached .nrrd header that holds the voxels, or None.

    Raises CaseError where there are several.
    """
    with path.open("rb") as file:
        return _named_in(path, file.read(LONGEST_HEADER))


def _named_in(path: Path, header: bytes) -> Path | None:
    if path.suffix not in (".mhd", ".mha", ".nrrd"):
        return None
    field = DATA_FILE.search(header)
    name = field.group(1).decode(errors="replace") if field else "LOCAL"
    if name.upper() == "LOCAL":
        return None
    if name.upper().startswith("LIST") or "%" in name:
        raise CaseError(f"'{path.name}' spreads its voxels over several files; join them into one")
    return path.parent / name


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CaseError(f"'{path.name}' cannot be read: {error.strerror or error}") from error

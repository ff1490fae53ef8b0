"""Files of this machine on their way into a store or out of it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from liverseg.errors import StoreError

# Bytes in memory at a time when a file is copied.
CHUNK_BYTES = 1 << 20


@contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """Yield the open file; StoreError, naming it, where it cannot be read."""
    try:
        file = path.open("rb")
    except OSError as exc:
        raise StoreError(f"cannot read the file {path}: {exc.strerror}") from exc
    with file:
        yield file


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that replaces `path` at the end; an error leaves `path` as it was.

    StoreError, naming the file, where it cannot be written.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb+") as file:
            yield file
        temporary.replace(path)
    except OSError as exc:
        raise StoreError(f"cannot write the file {path}: {exc.strerror or exc}") from exc
    finally:
        with suppress(OSError):
            temporary.unlink()

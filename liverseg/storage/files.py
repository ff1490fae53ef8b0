"""Files of this machine: read on their way into a store, and written whole or not at all.

A file is written under a temporary name in its folder, flushed to the disk and renamed, so that
nobody sees a part of it, and what lay there before survives an error and a power cut.
"""

import errno
import os
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from liverseg.errors import StoreError
from liverseg.storage.refusals import refusal

# Bytes in memory at a time when a file is copied.
CHUNK_BYTES = 1 << 20
# What file systems say that cannot flush a folder (SMB, some of FUSE).
_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


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
    with replacing([path]) as (temporary,):
        try:
            with temporary.open("xb+") as file:
                yield file
                flush(file)
        except OSError as exc:
            _remove([temporary])
            raise refusal(exc, "write", path) from exc


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write these files, all of them or none; an error leaves what lay there before.

    Their folders are made. StoreError, naming the file, and on a full disk how much room all of
    them need and how much there is.
    """
    with replacing(list(contents)) as temporaries:
        for (path, data), temporary in zip(contents.items(), temporaries, strict=True):
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    flush(file)
            except OSError as exc:
                _remove(temporaries)  # what is written already is room that these files have
                raise refusal(exc, "write", path, sum(map(len, contents.values()))) from exc


def flush(file: BinaryIO) -> None:
    """Bring what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    with suppress(FileNotFoundError):  # emptied and removed by a delete in the meantime
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as exc:
            if exc.errno not in _NO_FLUSH:
                raise
        finally:
            os.close(descriptor)


@contextmanager
def replacing(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield temporary names; at the end the files there replace the paths, all of them or none.

    A path that is a link stays one: the file that it leads to is replaced. A file that is replaced
    keeps its rights. Folders that are made are removed again after an error.
    """
    targets = [Path(os.path.realpath(path)) for path in paths]
    temporaries = [target.with_name(f".{uuid.uuid4().hex}") for target in targets]
    made = [f for t in targets for f in (t.parent, *t.parent.parents) if not f.exists()]
    try:
        for path, target in zip(paths, targets, strict=True):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise refusal(exc, "write", path) from exc
        yield temporaries
        for temporary, target in zip(temporaries, targets, strict=True):
            with suppress(OSError):  # nothing was there, or the file system knows no rights
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        _rename(temporaries, targets, paths)
        made = []
        for folder in {target.parent for target in targets}:
            flush_folder(folder)
    finally:
        _remove(temporaries)
        for folder in sorted(set(made), key=lambda f: len(f.parts), reverse=True):
            with suppress(OSError):
                folder.rmdir()


def _rename(temporaries: Sequence[Path], targets: Sequence[Path], paths: Sequence[Path]) -> None:
    """Rename all; where one cannot be, the targets become again what they were."""
    kept: list[tuple[Path, Path]] = []
    try:
        for temporary, target, path in zip(temporaries, targets, paths, strict=True):
            before = target.with_name(f"{temporary.name}.before")
            if len(targets) > 1:
                _keep(target, before)
            try:
                temporary.replace(target)
            except OSError as exc:
                with suppress(OSError):
                    before.unlink() if target.exists() else before.replace(target)
                raise refusal(exc, "write", path) from exc
            kept.append((before, target))
    except StoreError:
        for before, target in kept:
            with suppress(OSError):
                before.replace(target) if before.exists() else target.unlink()
        raise
    _remove(before for before, _ in kept)


def _keep(target: Path, before: Path) -> None:
    """Give a file a second name, or where there are no hard links another one."""
    if not target.is_file():
        return  # nothing is there yet, or a folder that is no output
    try:
        os.link(target, before)
    except OSError:
        with suppress(OSError):
            target.replace(before)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()

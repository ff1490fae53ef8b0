"""The store on a file system: a key is a path below one folder, a put is a rename into place."""

import errno
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from liverseg.errors import NotFound, StoreAway, StoreError
from liverseg.storage.files import CHUNK_BYTES, flush, flush_folder, open_source, whole_file
from liverseg.storage.keys import check_key
from liverseg.storage.outage_log import OutageLog
from liverseg.storage.refusals import refusal

# Bytes on their way into the store; dot entries are invisible to keys().
_INCOMING = ".incoming"
# What a writer that was killed left there is removed when it is this old.
_STALE_SECONDS = 24 * 3600.0
# delete() removes empty folders; a put that loses its folder to one makes it again.
_FOLDER_RETRIES = 20
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK)


class FolderStore:
    """An ObjectStore below `root`, which is made at the first write.

    Bytes are written to a temporary file, flushed to the disk and renamed, so a reader never
    sees a part of them and a power cut loses whole objects only.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._swept = False
        self._outage = OutageLog(f"store {root}")

    @property
    def url(self) -> str:
        """The URL that opens this store from anywhere on this machine."""
        return self.root.absolute().as_uri()

    @property
    def work(self) -> Path:
        """The folder for this machine's locks and logs; keys() does not see it."""
        return self.root / ".local"

    def put(self, key: str, data: bytes) -> None:
        """Write or replace; StoreError without rights or space, and then nothing is left."""
        self._replace(key, BytesIO(data))

    def put_file(self, key: str, path: Path) -> None:
        """Write or replace with the bytes of a file, copied in small pieces."""
        with open_source(path) as file:
            self._replace(key, file)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; return whether it was written."""
        target = self._path(key)
        with self._noted(), self._incoming(BytesIO(data), key) as temporary:
            try:
                # link, unlike rename, refuses a name that exists.
                _move(temporary, target, os.link)
            except FileExistsError:
                return False
            return True

    def get(self, key: str) -> bytes:
        """Return the bytes; raises NotFound."""
        path = self._path(key)
        with self._noted():
            try:
                return path.read_bytes()
            except OSError as exc:
                raise self._unread(exc, key) from exc

    def get_file(self, key: str, path: Path) -> None:
        """Write the bytes to the file `path`, copied in small pieces; raises NotFound."""
        with self._noted():
            try:
                source = self._path(key).open("rb")
            except OSError as exc:
                raise self._unread(exc, key) from exc
        with source, whole_file(path) as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)

    def keys(self, prefix: str) -> list[str]:
        """Return every key that starts with `prefix`, sorted."""
        folder, _, beginning = prefix.rpartition("/")
        start = self._path(folder) if folder else self.root
        above = folder + "/" if folder else ""
        keys: list[str] = []
        with self._noted():
            _collect(start, above, beginning, keys)
        return keys

    def folders(self, prefix: str) -> list[str]:
        """Return the parts that follow `prefix` in keys which continue after them, sorted."""
        folder = self._path(prefix.removesuffix("/")) if prefix else self.root
        with self._noted():
            return sorted(entry.name for entry in _entries(folder) if entry.is_dir())

    def delete(self, key: str) -> None:
        """Remove; an unknown key is no error. Folders that become empty go too."""
        path = self._path(key)
        with self._noted():
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            except OSError as exc:
                raise refusal(exc, "delete", path) from exc
        for folder in path.parents:
            if folder == self.root:
                return
            try:
                folder.rmdir()
            except OSError:
                return

    def _path(self, key: str) -> Path:
        check_key(key)
        return self.root / key

    def _replace(self, key: str, source: BinaryIO) -> None:
        target = self._path(key)
        with self._noted(), self._incoming(source, key) as temporary:
            _move(temporary, target, os.replace)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Log the first failure of a file system that is away, and its first answer after it."""
        try:
            yield
        except StoreAway as exc:
            self._outage.failed(getattr(exc.__cause__, "strerror", None) or str(exc))
            raise
        except NotFound:
            self._outage.succeeded()
            raise
        else:
            self._outage.succeeded()

    def _unread(self, exc: OSError, key: str) -> StoreError:
        if isinstance(exc, FileNotFoundError | IsADirectoryError | NotADirectoryError):
            return NotFound(f"the store {self.root} has no '{key}'")
        return refusal(exc, "read", self._path(key))

    @contextmanager
    def _incoming(self, source: BinaryIO, key: str) -> Iterator[Path]:
        """Yield a flushed temporary file of `source`; it is gone afterwards, whatever happens."""
        folder = self.root / _INCOMING
        temporary = folder / uuid.uuid4().hex
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._sweep(folder)
            with temporary.open("xb") as file:
                shutil.copyfileobj(source, file, CHUNK_BYTES)
                flush(file)
            yield temporary
        except OSError as exc:
            raise refusal(exc, "write", self.root / key) from exc
        finally:
            with suppress(OSError):
                temporary.unlink()

    def _sweep(self, folder: Path) -> None:
        if self._swept:
            return
        self._swept = True
        for path in folder.iterdir():
            # Another writer's file may vanish between the listing and the look at it.
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()


def _move(temporary: Path, target: Path, move: Callable[[Path, Path], None]) -> None:
    """Move a flushed file to `target`, whose folder is made first, and flush that too."""
    for _ in range(_FOLDER_RETRIES):
        if not _made(target.parent):
            continue
        try:
            move(temporary, target)
        except FileNotFoundError:
            continue
        except OSError as exc:
            if move is os.link and exc.errno in _NO_LINKS:
                raise StoreError(_no_links(target)) from exc
            raise
        flush_folder(target.parent)
        return
    raise StoreError(f"cannot write {target}: its folder is removed as often as it is made")


def _made(folder: Path) -> bool:
    """Make the folder; False if a delete was faster in removing what was there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        if folder.is_file():
            raise
        return False
    except FileNotFoundError:
        return False
    return True


def _collect(folder: Path, above: str, beginning: str, keys: list[str]) -> None:
    """Append the keys in `folder` (key prefix `above`) whose next part begins with `beginning`.

    Folders are looked at in the order of their keys, not in that of the file system.
    """
    for entry in sorted(_entries(folder), key=lambda e: e.name + "/" * e.is_dir()):
        if not entry.name.startswith(beginning):
            continue
        if entry.is_dir():
            _collect(Path(entry.path), f"{above}{entry.name}/", "", keys)
        else:
            keys.append(above + entry.name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what a folder holds of the store; nothing where there is no such folder."""
    try:
        return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise refusal(exc, "list", folder) from exc


def _no_links(target: Path) -> str:
    return (
        f"cannot write {target}: its file system has no hard links, without which two writers of "
        "one key cannot be told apart; choose a store on another file system"
    )

"""A store whose records are read once: for who looks at the same study again and again."""

from collections.abc import Callable
from pathlib import Path

from liverseg.storage.port import ObjectStore


class CachingStore:
    """An ObjectStore before another one; keeps in memory what `get` returned.

    `changing` says which keys may be written more than once; these are always read anew.
    """

    def __init__(self, store: ObjectStore, changing: Callable[[str], bool]) -> None:
        self._store = store
        self._changing = changing
        self._known: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        """Write or replace."""
        self._known.pop(key, None)
        self._store.put(key, data)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; return whether it was written."""
        return self._store.put_new(key, data)

    def get(self, key: str) -> bytes:
        """Return the bytes, as they were at the first look; raises NotFound."""
        if key in self._known:
            return self._known[key]
        data = self._store.get(key)
        if not self._changing(key):
            self._known[key] = data
        return data

    def put_file(self, key: str, path: Path) -> None:
        """Write or replace with the bytes of a file of any size, in bounded memory."""
        self._known.pop(key, None)
        self._store.put_file(key, path)

    def get_file(self, key: str, path: Path) -> None:
        """Write the bytes to the file `path`, whole or not at all, in bounded memory."""
        self._store.get_file(key, path)

    def keys(self, prefix: str) -> list[str]:
        """Return every key that starts with `prefix`, sorted."""
        return self._store.keys(prefix)

    def folders(self, prefix: str) -> list[str]:
        """Return the parts that follow `prefix` in keys which continue after them, sorted."""
        return self._store.folders(prefix)

    def delete(self, key: str) -> None:
        """Remove; an unknown key is no error."""
        self._known.pop(key, None)
        self._store.delete(key)

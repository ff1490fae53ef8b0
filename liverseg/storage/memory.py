"""A store in a dictionary: small, complete, and able to fail at the n-th write."""

import threading
from bisect import bisect_left, insort
from collections.abc import Callable
from pathlib import Path

from liverseg.errors import NotFound
from liverseg.storage.files import open_source, whole_file
from liverseg.storage.keys import check_key


class MemoryStore:
    """An ObjectStore for rehearsals.

    `before_write` is called with the number of the write (from 0, deletions included) and the
    key, before anything changes; what it raises is what the writer meets. `after_write` is called
    when the change is there: a crash of the writer after its last write took effect.
    """

    def __init__(
        self,
        before_write: Callable[[int, str], None] | None = None,
        after_write: Callable[[int, str], None] | None = None,
    ) -> None:
        self.objects: dict[str, bytes] = {}
        self._sorted: list[str] = []
        self.writes = 0
        # Between the look and the write of put_new no other thread may write.
        self._lock = threading.Lock()
        self.before_write = before_write
        self.after_write = after_write

    def put(self, key: str, data: bytes) -> None:
        """Write or replace."""
        number = self._begin(key)
        self._set(key, data)
        self._end(number, key)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; return whether it was written."""
        number = self._begin(key)
        with self._lock:
            if key in self.objects:
                return False
            self._set(key, data)
        self._end(number, key)
        return True

    def get(self, key: str) -> bytes:
        """Return the bytes; raises NotFound."""
        check_key(key)
        if key not in self.objects:
            raise NotFound(f"the store has no '{key}'")
        return self.objects[key]

    def put_file(self, key: str, path: Path) -> None:
        """Write or replace with the bytes of a file; all of them are kept in memory."""
        with open_source(path) as file:
            self.put(key, file.read())

    def get_file(self, key: str, path: Path) -> None:
        """Write the bytes to the file `path`; raises NotFound."""
        with whole_file(path) as file:
            file.write(self.get(key))

    def keys(self, prefix: str) -> list[str]:
        """Return every key that starts with `prefix`, sorted."""
        # Sorted anew only where keys came or went behind our back, as tests do it.
        if len(self._sorted) != len(self.objects):
            self._sorted = sorted(self.objects)
        start = bisect_left(self._sorted, prefix)
        end = bisect_left(self._sorted, prefix + chr(0x10FFFF), start)
        return self._sorted[start:end]

    def folders(self, prefix: str) -> list[str]:
        """Return the parts that follow `prefix` in keys which continue after them, sorted."""
        parts = (key.removeprefix(prefix).partition("/") for key in self.keys(prefix))
        return sorted({part for part, slash, _ in parts if slash})

    def delete(self, key: str) -> None:
        """Remove; an unknown key is no error."""
        number = self._begin(key)
        if self.objects.pop(key, None) is not None:
            index = bisect_left(self._sorted, key)
            if self._sorted[index : index + 1] == [key]:
                del self._sorted[index]
        self._end(number, key)

    def _set(self, key: str, data: bytes) -> None:
        if key not in self.objects:
            insort(self._sorted, key)
        self.objects[key] = bytes(data)

    def _begin(self, key: str) -> int:
        check_key(key)
        number = self.writes
        self.writes += 1
        if self.before_write is not None:
            self.before_write(number, key)
        return number

    def _end(self, number: int, key: str) -> None:
        if self.after_write is not None:
            self.after_write(number, key)

"""The object store as this project needs it: bytes under keys, nothing else."""

from pathlib import Path
from typing import Protocol


class ObjectStore(Protocol):
    """Bytes under slash-separated keys such as "studies/3f2a/spec.json".

    A put is atomic: a reader sees the old bytes or the new ones, never a part. Every method
    raises StoreError where the store fails (permission, space, connection).
    """

    def put(self, key: str, data: bytes) -> None:
        """Write or replace."""

    def put_new(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; return whether it was written.

        Two that write one new key at the same moment may both be told True by a server that does
        not know conditional writes, and the later bytes stay. Whoever calls this must be right
        then too: give a key one writer, or bytes that are the same whoever writes them.
        """
        ...

    def get(self, key: str) -> bytes:
        """Return the bytes; raises NotFound."""
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Write or replace with the bytes of a file of any size, in bounded memory."""

    def get_file(self, key: str, path: Path) -> None:
        """Write the bytes to the file `path`, whole or not at all, in bounded memory.

        Its folder is made. Raises NotFound.
        """

    def keys(self, prefix: str) -> list[str]:
        """Return every key that starts with `prefix`, sorted.

        They are looked at in that order, too; a folder that is made meanwhile may be missed.
        """
        ...

    def folders(self, prefix: str) -> list[str]:
        """Return the parts, sorted, that follow `prefix` in keys which continue after them.

        `prefix` is empty or ends with "/". The keys below are not listed: this costs few requests
        where `keys` would cost one per thousand keys.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove; an unknown key is no error."""


class LocatedStore(ObjectStore, Protocol):
    """A store that other processes can open too."""

    @property
    def url(self) -> str:
        """What opens this store from another process of this machine."""
        ...

    @property
    def work(self) -> Path:
        """The folder for this machine's locks and logs; it is no part of the store."""
        ...

"""The object store as this project needs it: bytes under keys, nothing else."""

from typing import Protocol


class ObjectStore(Protocol):
    """Bytes under slash-separated keys such as "studies/3f2a/result.json".

    A put is atomic: a reader sees the old bytes or the new ones, never a part. Every method
    raises StoreError where the store refuses (rights, space, connection).
    """

    def put(self, key: str, data: bytes) -> None:
        """Write or replace."""

    def put_new(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; return whether it was written."""
        ...

    def get(self, key: str) -> bytes:
        """Return the bytes; raises NotFound."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Return every key that starts with `prefix`, sorted."""
        ...

    def delete(self, key: str) -> None:
        """Remove; an unknown key is no error."""

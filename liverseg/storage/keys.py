"""What a key may look like, the same in every store."""

from liverseg.errors import StoreError


def check_key(key: str) -> None:
    """Raise StoreError unless `key` names one object in any kind of store.

    Segments between slashes must not be empty nor start with a dot: "." and ".." would leave
    the store, and dot entries belong to the store itself (temporary files, local job folders).
    """
    if "\0" in key:
        raise StoreError(f"key {key!r} holds a NUL character")
    for segment in key.split("/"):
        if not segment:
            raise StoreError(f"key {key!r} has an empty segment")
        if segment.startswith("."):
            raise StoreError(f"key {key!r} has a segment that starts with a dot: {segment!r}")


def is_key(name: str) -> bool:
    """Return whether `name` may be a key."""
    try:
        check_key(name)
    except StoreError:
        return False
    return True

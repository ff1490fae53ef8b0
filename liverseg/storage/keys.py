"""What a key may look like, the same in every store."""

from liverseg.errors import StoreError


def check_key(key: str) -> None:
    """Raise StoreError unless `key` names one object in any kind of store.

    The parts between slashes must not be empty nor start with a dot: "." and ".." would leave
    the store, and dot entries belong to the store itself (temporary files, local job folders).
    """
    if "\0" in key:
        raise StoreError(f"key {key!r} holds a NUL character")
    for part in key.split("/"):
        if not part:
            raise StoreError(f"key {key!r} has an empty part")
        if part.startswith("."):
            raise StoreError(f"key {key!r} has a part that starts with a dot: {part!r}")


def is_key(name: str) -> bool:
    """Return whether `name` may be a key."""
    try:
        check_key(name)
    except StoreError:
        return False
    return True

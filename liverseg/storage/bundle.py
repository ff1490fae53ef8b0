"""A bundle: files that count only together, such as a checkpoint or a prepared case.

The payload is written first and `manifest.json`, with every file's SHA-256, last: a bundle whose
writing was cut short has no manifest and does not exist.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar, overload

from liverseg.errors import IntegrityError, NotFound, StoreAway, StoreError
from liverseg.storage import record
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import Count, Sha256

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class File:
    """One file of a bundle."""

    sha256: Sha256
    bytes: Count


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds; a subclass has the further entries of its kind of bundle."""

    files: dict[str, File]
    """By name below the bundle's prefix."""


AnyManifest = TypeVar("AnyManifest", bound=Manifest)


def commit(
    store: ObjectStore,
    prefix: str,
    files: Mapping[str, bytes],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write `files` below `prefix` (ends with "/") and then the manifest.

    `extra` are further entries of the manifest, beside {"files": {name: {"sha256", "bytes"}}}.
    Where a write fails (a full disk), what was written of the payload is taken back, unless
    somebody has committed the same bundle.
    """
    try:
        for name, data in files.items():
            store.put(prefix + name, data)
    except StoreAway:
        # Nothing can be taken back either; without a manifest it does not count.
        raise
    except StoreError:
        with suppress(StoreError):
            if not exists(store, prefix):
                for name in files:
                    store.delete(prefix + name)
        raise
    described = {
        name: {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in files.items()
    }
    record.write(store, prefix + MANIFEST, dict(extra or {}) | {"files": described})


def delete(store: ObjectStore, prefix: str) -> None:
    """Remove a bundle: its manifest first, so that what a crash leaves never counts."""
    store.delete(prefix + MANIFEST)
    for key in store.keys(prefix):
        store.delete(key)


def exists(store: ObjectStore, prefix: str) -> bool:
    """Return whether a bundle was committed at `prefix`; its bytes are not verified."""
    try:
        store.get(prefix + MANIFEST)
    except NotFound:
        return False
    return True


@overload
def manifest(store: ObjectStore, prefix: str) -> Manifest: ...
@overload
def manifest(store: ObjectStore, prefix: str, kind: type[AnyManifest]) -> AnyManifest: ...
def manifest(store: ObjectStore, prefix: str, kind: type[Manifest] = Manifest) -> Manifest:
    """Return the manifest; raises NotFound where nothing was committed."""
    return record.read(store, prefix + MANIFEST, kind)


def manifest_sha256(store: ObjectStore, prefix: str) -> str:
    """Return the SHA-256 (hex) of the manifest's bytes, which fixes every byte of the bundle."""
    return sha256(store.get(prefix + MANIFEST)).hexdigest()


def load(store: ObjectStore, prefix: str, names: Collection[str] | None = None) -> dict[str, bytes]:
    """Return the bundle's files (or those of `names`), each compared with its SHA-256.

    Raises NotFound where nothing was committed, and IntegrityError, naming the key and both
    hashes, where a file is gone or its bytes are not those that were committed.
    """
    described = manifest(store, prefix).files
    wanted = described.keys() if names is None else names
    missing = sorted(set(wanted) - described.keys())
    if missing:
        raise IntegrityError(
            f"'{prefix}{MANIFEST}' is damaged: it has no file '{missing[0]}', only "
            f"{', '.join(sorted(described)) or 'none'}"
        )
    return {name: _verified(store, prefix + name, described[name].sha256) for name in wanted}


def _verified(store: ObjectStore, key: str, promised: str) -> bytes:
    try:
        data = store.get(key)
    except NotFound as exc:
        raise IntegrityError(f"'{key}' is gone; its manifest promises SHA-256 {promised}") from exc
    digest = sha256(data).hexdigest()
    if digest != promised:
        raise IntegrityError(
            f"'{key}' is damaged: its SHA-256 is {digest}, its manifest promises {promised}"
        )
    return data

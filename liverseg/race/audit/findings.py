"""An audit's notebook: facts read as if anyone had edited them, and what is wrong with them.

A reader of the race trusts its records; an audit must not. Whatever a text holds, the outcome is a
fact whose every entry has its type, or a finding that names the key; never an exception.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, TypeVar

from liverseg.errors import IntegrityError, NotFound
from liverseg.storage import record
from liverseg.storage.bundle import MANIFEST, Manifest
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import shown

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Finding:
    """One difference between what is stored and what follows from the other facts."""

    key: str
    problem: str
    """What the key says, and what follows from the facts."""


@dataclass(frozen=True)
class Entry(Generic[Kind]):
    """What lies under one key."""

    sha256: str
    """Of its bytes."""
    fact: Kind | None
    """None: it cannot be read, or belongs under another key; there is a finding."""


class Audit:
    """Reads a store and collects findings; `checked` counts what was looked at, by kind."""

    def __init__(self, store: ObjectStore) -> None:
        self.findings: list[Finding] = []
        self.checked: Counter[str] = Counter()
        self.store = store

    def note(self, key: str, problem: str) -> None:
        """Record a finding; the same one twice counts once."""
        finding = Finding(key, problem)
        if finding not in self.findings:
            self.findings.append(finding)

    def values(self, key: str) -> dict[str, Any] | None:
        """Return the record under `key`, or None where it is missing or, noted, damaged."""
        try:
            return record.read(self.store, key)
        except NotFound:
            return None
        except IntegrityError as error:
            self.note(key, _reason(error, key))
            return None

    def fact(self, key: str, kind: type[Kind]) -> Entry[Kind] | None:
        """Return what lies under `key`; None where nothing does."""
        try:
            data = self.store.get(key)
        except NotFound:
            return None
        digest = sha256(data).hexdigest()
        try:
            return Entry(digest, record.decode(data, key, kind))
        except IntegrityError as error:
            self.note(key, _reason(error, key))
            return Entry(digest, None)

    def facts(
        self, prefix: str, kind: type[Kind], key_of: Callable[[Kind], str]
    ) -> dict[str, Entry[Kind]]:
        """Return everything below `prefix` by key; `key_of` says where a fact belongs."""
        found: dict[str, Entry[Kind]] = {}
        for key in self.store.keys(prefix):
            entry = self.fact(key, kind)
            if entry is None:
                continue
            if entry.fact is not None and key_of(entry.fact) != key:
                self.note(key, f"what it says belongs under '{key_of(entry.fact)}'")
                entry = Entry(entry.sha256, None)
            found[key] = entry
        return found

    def bundle(self, prefix: str) -> dict[str, str] | None:
        """Compare a bundle's files with its manifest; return the SHA-256 it promises by name.

        None where there is no manifest, or none that can be read.
        """
        key = prefix + MANIFEST
        entry = self.fact(key, Manifest)
        if entry is None or entry.fact is None:
            return None
        there = set(self.store.keys(prefix))
        promised = {name: file.sha256 for name, file in entry.fact.files.items()}
        for name, digest in promised.items():
            self.checked["files"] += 1
            if prefix + name not in there:
                self.note(key, f"promises a file {shown(name)}, which is gone")
                continue
            found = self.sha256(prefix + name)
            if found not in (None, digest):
                self.note(
                    prefix + name, f"its SHA-256 is {found}, '{key}' promises {shown(digest)}"
                )
        return promised

    def sha256(self, key: str) -> str | None:
        """Return the SHA-256 (hex) of the bytes under `key`, or None where it is missing."""
        try:
            return sha256(self.store.get(key)).hexdigest()
        except NotFound:
            return None


def _reason(error: IntegrityError, key: str) -> str:
    return str(error).removeprefix(f"'{key}' ")

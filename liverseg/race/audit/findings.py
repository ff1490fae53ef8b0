"""The findings of an audit, and the store as it reads it: nothing that a key holds raises."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, TypeVar

from liverseg.errors import IntegrityError, NotFound
from liverseg.race.records.facts import Fact
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
    """What the key holds, and what was expected."""


@dataclass(frozen=True)
class Entry(Generic[Kind]):
    """A fact under its key."""

    key: str
    sha256: str
    """Of its bytes."""
    fact: Kind


class Audit:
    """Reads a store and collects findings; `checked` counts what was read, by kind."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.findings: list[Finding] = []
        self.checked: Counter[str] = Counter()
        self.unreadable: set[str] = set()
        """Keys of which there is no fact: it is malformed, or belongs under another key."""

    def note(self, key: str, problem: str) -> None:
        """Record a finding; the same one twice counts once."""
        finding = Finding(key, problem)
        if finding not in self.findings:
            self.findings.append(finding)

    def missing(self, key: str, because_of: str) -> None:
        """Note that nothing is under `key`; what cannot be read was noted before."""
        if key not in self.unreadable:
            self.note(key, f"is missing, expected because of '{because_of}'")

    def compare(
        self, key: str, fact: Fact | Mapping[str, Any], expected: Mapping[str, Any], source: str
    ) -> None:
        """Note every field that is not as `expected`, which is by `source`."""
        stored = vars(fact) if isinstance(fact, Fact) else fact
        for name, value in expected.items():
            if (actual := stored.get(name)) != value:
                text = f"field '{name}' is {shown(actual)}, expected {shown(value)} by {source}"
                self.note(key, text)

    def read(self, key: str, kind: type[Kind]) -> Entry[Kind] | None:
        """Return the fact under `key`; None where there is none, or, noted, none of that kind."""
        try:
            data = self.store.get(key)
            return Entry(key, sha256(data).hexdigest(), record.decode(data, key, kind))
        except NotFound:
            return None
        except IntegrityError as error:
            self._refuse(key, str(error).removeprefix(f"'{key}' "))
            return None

    def parse(self, keys: Iterable[str], parser: Callable[[str], object]) -> None:
        """Note every key that `parser` rejects."""
        for key in keys:
            try:
                parser(key)
            except IntegrityError as error:
                self._refuse(key, str(error).removeprefix(f"'{key}' "))

    def facts(
        self, keys: Iterable[str], kind: type[Kind], key_of: Callable[[Entry[Kind]], str]
    ) -> list[Entry[Kind]]:
        """Return the facts under `keys`; `key_of` says where one belongs."""
        entries = [entry for key in keys if (entry := self.read(key, kind)) is not None]
        for entry in entries:
            if key_of(entry) != entry.key:
                self._refuse(entry.key, f"what it holds belongs under '{key_of(entry)}'")
        return [entry for entry in entries if entry.key not in self.unreadable]

    def bundle(self, prefix: str) -> dict[str, str] | None:
        """Compare a bundle's files with its manifest; return the SHA-256 by name that it lists.

        None where there is no manifest that can be read.
        """
        manifest = self.read(prefix + MANIFEST, Manifest)
        if manifest is None:
            return None
        listed = {name: file.sha256 for name, file in manifest.fact.files.items()}
        # What a damaged manifest lists may be no key at all, so it is not asked for.
        keys = set(self.store.keys(prefix))
        for name, expected in listed.items():
            self.checked["files"] += 1
            stored = self.sha256(prefix + name) if prefix + name in keys else None
            if stored is None:
                self.note(manifest.key, f"lists file {shown(name)}, which is missing")
            elif stored != expected:
                self.note(
                    prefix + name, f"its SHA-256 is {stored}, expected {expected} by its manifest"
                )
        return listed

    def sha256(self, key: str) -> str | None:
        """Return the SHA-256 (hex) of the bytes under `key`, or None where it is missing."""
        try:
            return sha256(self.store.get(key)).hexdigest()
        except NotFound:
            return None

    def _refuse(self, key: str, problem: str) -> None:
        self.note(key, problem)
        self.unreadable.add(key)

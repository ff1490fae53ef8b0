"""An audit's notebook: facts read as if anyone had edited them, and what is wrong with them.

A reader of the race trusts its records; an audit must not. Whatever a text holds, the outcome is a
fact whose every entry has its type, or a finding that names the key; never an exception.
"""

import dataclasses
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, Literal, TypeVar

from liverseg.errors import IntegrityError, NotFound
from liverseg.race.records.facts import Fact
from liverseg.storage import record
from liverseg.storage.bundle import MANIFEST
from liverseg.storage.port import ObjectStore

Kind = TypeVar("Kind", bound=Fact)
# A SHA-256 in quotation samples is shown whole.
_SHOWN_CHARACTERS = 66
# Whole numbers beyond this are no count of anything here, and overflow where floats are compared.
_LARGEST = 2**53


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


@dataclass(frozen=True)
class _File:
    sha256: str
    bytes: int


@dataclass(frozen=True)
class _Manifest(Fact):
    files: dict[str, _File]


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
            values = record.decode(data, key)
        except IntegrityError as error:
            self.note(key, _reason(error, key))
            return Entry(digest, None)
        wrong = list(mistakes(values, kind, ""))
        for mistake in wrong:
            self.note(key, mistake)
        return Entry(digest, None if wrong else kind.from_mapping(values))

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
        values = self.values(key)
        if values is None:
            return None
        wrong = list(mistakes(values, _Manifest, ""))
        for mistake in wrong:
            self.note(key, mistake)
        if wrong:
            return None
        there = set(self.store.keys(prefix))
        promised: dict[str, str] = {name: file["sha256"] for name, file in values["files"].items()}
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


def mistakes(value: object, hint: Any, path: str) -> Iterator[str]:
    """Yield what keeps a JSON value from being a `hint`: a dataclass, a container or a plain type.

    Entries that `hint` does not know are passed over where a later version may have written them,
    which is at the top; inside, they are mistakes.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        yield from _field_mistakes(value, hint, path)
    elif origin is tuple and isinstance(value, list):
        for index, entry in enumerate(value):
            yield from mistakes(entry, arguments[0], f"{path}[{index}]")
    elif origin is dict and isinstance(value, dict):
        for name, entry in value.items():
            yield from mistakes(entry, arguments[1], f"{path}.{shown(name)}")
    elif not _is(value, hint):
        wanted = getattr(hint, "__name__", str(hint))
        yield f"'{path}' is {shown(value)}, not {wanted}"


def _field_mistakes(values: dict[str, Any], kind: Any, path: str) -> Iterator[str]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner = f"{path}.{field.name}" if path else field.name
        if field.name in values:
            yield from mistakes(values[field.name], hints[field.name], inner)
        elif field.default is dataclasses.MISSING:
            yield f"'{inner}' is missing"
    unknown = sorted(values.keys() - hints.keys()) if path else []
    for name in unknown:
        yield f"'{path}' has an entry {shown(name)}, which nobody writes"


def _is(value: object, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is(value, argument) for argument in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if hint in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
        return whole or (hint is float and isinstance(value, float))
    return isinstance(hint, type) and isinstance(value, hint)


def shown(value: object) -> str:
    """Return a value as messages quote it: on one line, and not all of a long one."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _reason(error: IntegrityError, key: str) -> str:
    return str(error).removeprefix(f"'{key}' ")

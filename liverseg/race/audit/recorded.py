"""A study's facts as an audit reads them, and its findings: nothing that a key holds raises."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, TypeVar

from liverseg.core.race.ledger import RungName
from liverseg.errors import IntegrityError, NotFound, StudyError
from liverseg.race.records import facts, spans
from liverseg.race.records.decisions import Decision, Failure, Promotion
from liverseg.race.records.facts import Fact, Report
from liverseg.race.records.study import Study
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
    """A fact under its key, and the SHA-256 of its bytes."""

    key: str
    sha256: str
    fact: Kind


class Audit:
    """Reads a store and collects findings; `checked` counts what was read, by kind."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.findings: list[Finding] = []
        self.checked: Counter[str] = Counter()

    def note(self, key: str, problem: object) -> None:
        """Record a finding; `problem` may be an error that begins with the key."""
        self.findings.append(Finding(key, str(problem).removeprefix(f"'{key}' ")))

    @contextmanager
    def noting(self, key: str) -> Iterator[None]:
        """Note an IntegrityError; what is missing is noted by what depends on it."""
        try:
            yield
        except (NotFound, StudyError):
            pass
        except IntegrityError as error:
            self.note(key, error)

    def compare(self, entry: Entry[Any], expected: Mapping[str, Any], source: str) -> None:
        """Note every field that is not as `expected`, which is by `source`."""
        stored = entry.fact if isinstance(entry.fact, dict) else vars(entry.fact)
        for name, value in expected.items():
            if (actual := stored.get(name)) != value:
                problem = f"field '{name}' is {shown(actual)}, expected {shown(value)} by {source}"
                self.note(entry.key, problem)

    def read(self, key: str, kind: type[Kind]) -> Entry[Kind] | None:
        """Return the fact under `key`; None where there is none, or, noted, none of that kind."""
        with self.noting(key):
            data = self.store.get(key)
            entry = Entry(key, sha256(data).hexdigest(), record.decode(data, key, kind))
            if isinstance(entry.fact, Fact) and entry.fact.form:
                expected = entry.fact.key(key.split("/")[1], sha256=entry.sha256)
                if expected != key:
                    raise IntegrityError(f"what it holds belongs under '{expected}'")
            return entry
        return None

    def read_all(self, name: str, keys: Iterable[str], kind: type[Kind]) -> list[Entry[Kind]]:
        """Return the facts under `keys` that can be read; they are counted as `name`."""
        entries = [entry for key in keys if (entry := self.read(key, kind)) is not None]
        self.checked[name] = len(entries)
        return entries

    def bundle(self, prefix: str) -> Entry[Manifest] | None:
        """Compare a bundle's files with its manifest; return this if it can be read."""
        manifest, keys = self.read(prefix + MANIFEST, Manifest), self.store.keys(prefix)
        for name, file in manifest.fact.files.items() if manifest else ():
            self.checked["files"] += 1
            # What a damaged manifest lists may be no key at all, so it is not asked for.
            if (key := prefix + name) not in keys:
                self.note(prefix + MANIFEST, f"lists file {shown(name)}, which is missing")
                continue
            with self.noting(key):
                stored, listed = sha256(self.store.get(key)).hexdigest(), file.sha256
                if stored != listed:
                    self.note(key, f"its SHA-256 is {stored}, expected {listed} by its manifest")
        return manifest


class RungFacts:
    """The facts of all rungs that can be read; the others are noted."""

    def __init__(self, audit: Audit, study: Study) -> None:
        self.audit, self.study = audit, study
        # A store lists decisions and promotions before the reports of their rung, so that they
        # rest on nothing that a running race writes in between.
        keys: dict[str, list[str]] = defaultdict(list)
        for key in audit.store.keys(facts.rungs_prefix(study.id)):
            keys[facts.kind_at_rung(key)].append(key)
        for key in keys[""]:
            audit.note(key, "is not a valid key of a race")
        for key in keys["attempts"]:
            with audit.noting(key):
                spans.parse(key)
        promotions = audit.read_all("promotions", keys["promotions"], Promotion)
        decisions = audit.read_all("decisions", keys["decision.json"], Decision)
        self.conclusions: list[Entry[Promotion] | Entry[Decision]] = [*promotions, *decisions]
        self.decisions = {entry.fact.rung: entry for entry in decisions}
        self.entrants = defaultdict(set, {0: set(range(study.settings.race.seeds))})
        for entry in promotions:
            self.entrants[entry.fact.rung + 1].add(entry.fact.seed)
        for rung, decision in self.decisions.items():
            self.entrants[rung + 1].update(decision.fact.promoted)
        self.reports = {e.sha256: e for e in audit.read_all("reports", keys["reports"], Report)}
        self.failures: dict[tuple[RungName, int], list[Failure]] = defaultdict(list)
        for failure in audit.read_all("failures", keys["failures"], Failure):
            self.failures[failure.fact.rung, failure.fact.seed].append(failure.fact)

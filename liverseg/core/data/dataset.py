"""The cases of a study: what they are, where their files lie, and the digest of it all."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from liverseg.core.data.plausibility import SpacingRange
from liverseg.settings import PreparationSettings, Settings, digest

Role = Literal["training", "validation", "test"]


@dataclass(frozen=True)
class CaseRecord:
    """One case of a data set, as every step after the scan knows it."""

    name: str
    """Folder name; shown to people, never part of a key."""
    patient: str
    """Pseudonym from case.json, or the case's name; the unit of every split."""
    role: Role
    key: str
    """Hash of its files' bytes and of the preparation settings; the prepared case's address."""
    raters: tuple[str, ...]
    files: dict[str, str]
    """Path below the data folder by "image", "liver", "R1", ..."""
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    synthetic: bool = False
    """case.json says so; shown wherever the case is shown."""
    sha256: dict[str, str] = field(default_factory=dict)
    """SHA-256 (hex) of every file when it was scanned, by the same names as `files`."""


@dataclass(frozen=True)
class Dataset:
    """All cases, sorted by name."""

    cases: tuple[CaseRecord, ...]
    preparation: PreparationSettings = field(default_factory=PreparationSettings)
    """What the cases' keys were made with: a study of other settings would find other cases."""
    excluded: tuple[tuple[str, str], ...] = ()
    """(case, what is wrong with it) of those that were left out; no part of the digest."""
    labels: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Which labels were "lesion" and "liver", where settings said so; part of the cases' keys."""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over every case's key, name, patient, role and whether it is synthetic.

        What a result depends on, and what it is called.
        """
        cases = sorted([c.key, c.name, c.patient, c.role, c.synthetic] for c in self.cases)
        return digest([cases, self.preparation.changed])

    @property
    def synthetic(self) -> bool:
        """Whether any case is."""
        return any(case.synthetic for case in self.cases)

    @property
    def training_spacing_mm(self) -> SpacingRange | None:
        """The range of the training cases' spacings; None where there are none."""
        return SpacingRange.of([case.spacing_mm for case in self.role("training")])

    def scanned_with_other(self, settings: Settings) -> Iterator[tuple[str, Any, Any]]:
        """Yield (setting, its value, that of the scan) where cases were prepared with another."""
        prepared = asdict(self.preparation)
        for name, value in asdict(settings.preparation).items():
            if value != prepared[name]:
                yield f"preparation.{name}", value, prepared[name]
        for kind in ("lesion", "liver"):
            chosen, scanned = settings.data.labels.get(kind, ()), self.labels.get(kind, ())
            if chosen != scanned:
                yield f"data.{kind}_labels", chosen, scanned

    def role(self, role: Role) -> tuple[CaseRecord, ...]:
        """Return the cases that train, validate or test."""
        return tuple(c for c in self.cases if c.role == role)

"""A data folder as people fill it: one folder per case, and the files in each.

data/case 01/image.nii.gz  liver.nii.gz  tumor_R1.nii.gz ...  case.json
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from liverseg.core.data.dataset import Role
from liverseg.core.volumes.volume import Spacing
from liverseg.errors import SettingsError
from liverseg.imaging.files import SUFFIXES

_STEM = re.compile(r"image|liver|tumor_(R[1-9][0-9]*)")
Problem = tuple[str, str]


@dataclass(frozen=True)
class ScannedCase:
    """A case on this machine's disk, and what the scan has learned about it so far.

    `find_cases` fills the first fields, `check_case` those after `problems`.
    """

    name: str
    """The folder's name."""
    patient: str
    """Pseudonym from case.json, or the folder's name."""
    synthetic: bool
    files: dict[str, Path]
    """By "image", "liver", "R1", ...; raters in order."""
    problems: tuple[Problem, ...]
    """(file, what is wrong with it)."""
    sha256: dict[str, str] = field(default_factory=dict)
    """SHA-256 (hex) of every file that can be read, by the same names as `files`."""
    key: str = ""
    """Of the prepared case; empty unless every file can be read."""
    shape: tuple[int, int, int] | None = None
    """Voxels (z, y, x); None if the image cannot be read."""
    spacing_mm: Spacing | None = None
    lesion_ml: dict[str, float] = field(default_factory=dict)
    """Contoured volume by rater."""
    prepared: bool = False
    """Was in the store before this scan."""
    role: Role | None = None
    """None where the split itself is wrong."""

    @property
    def raters(self) -> tuple[str, ...]:
        """Raters that have a contour, in order."""
        return tuple(name for name in self.files if name not in ("image", "liver"))


def find_cases(data: Path) -> list[ScannedCase]:
    """Return every case of the folder, sorted by name; what begins with a dot is ignored.

    Raises SettingsError if there is no such folder or no case in it.
    """
    if not data.is_dir():
        raise SettingsError(f"data folder '{data}' does not exist or is not a folder")
    try:
        folders = sorted(p for p in data.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise SettingsError(f"data folder '{data}' cannot be read: {error.strerror}") from error
    if not folders:
        raise SettingsError(
            f"data folder '{data}' has no case: it needs one folder per case with image, liver and "
            f"tumor_R1 as {', '.join(SUFFIXES)}"
        )
    return [_case(folder) for folder in folders]


def _case(folder: Path) -> ScannedCase:
    try:
        paths = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        problem = ("", f"the folder cannot be read: {error.strerror}")
        return ScannedCase(folder.name, folder.name, False, {}, (problem,))
    problems: list[Problem] = []
    paths_by_name: dict[str, list[Path]] = {}
    for path in paths:
        suffix = next((s for s in SUFFIXES if path.name.endswith(s)), None)
        stem = _STEM.fullmatch(path.name.removesuffix(suffix)) if suffix else None
        if stem:
            paths_by_name.setdefault(stem.group(1) or stem.group(), []).append(path)
        elif path.name.lower().startswith("tumor") and path.suffix != ".raw":
            problems.append((path.name, f"'{path.name}' is not understood; expected tumor_R1, ..."))
    for same in (p for p in paths_by_name.values() if len(p) > 1):
        names = ", ".join(f"'{p.name}'" for p in same)
        problems.append((same[0].name, f"there are several: {names}; keep one"))
    missing = [name for name in ("image", "liver") if name not in paths_by_name]
    problems += [(name, f"there is no '{name}' file") for name in missing]
    patient, synthetic, in_description = _description(folder)
    ordered = sorted(paths_by_name, key=lambda n: (n not in ("image", "liver"), len(n), n))
    files = {name: paths_by_name[name][0] for name in ordered}
    return ScannedCase(folder.name, patient, synthetic, files, tuple(problems + in_description))


def _description(folder: Path) -> tuple[str, bool, list[Problem]]:
    """Return patient and synthetic from case.json, or their defaults, and what is wrong with it."""
    path = folder / "case.json"
    if not path.exists():
        return folder.name, False, []
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return folder.name, False, [(path.name, f"'case.json' cannot be read: {error}")]
    if not isinstance(values, dict):
        return folder.name, False, [(path.name, "'case.json' must be a table of values")]
    patient, synthetic = values.get("patient", folder.name), values.get("synthetic", False)
    problems = []
    if not isinstance(patient, str) or not patient:
        problems.append((path.name, f"'patient' must be a pseudonym in quotes, not {patient!r}"))
        patient = folder.name
    if not isinstance(synthetic, bool):
        problems.append((path.name, f"'synthetic' must be true or false, not {synthetic!r}"))
        synthetic = False
    return patient, synthetic, problems

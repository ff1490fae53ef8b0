"""A data folder as people fill it: one folder a case, and the files in each.

data/case 01/image.nii.gz  liver.nii.gz  tumor_R1.nii.gz ...  case.json
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from liverseg.core.volumes.volume import Volume
from liverseg.errors import CaseError, SettingsError
from liverseg.imaging.files import SUFFIXES, check_same_grid, read, read_mask
from liverseg.imaging.integrity import chunks, data_file
from liverseg.settings import PREPARATION_VERSION, PreparationSettings, digest

_STEM = re.compile(r"image|liver|tumor_(R[1-9][0-9]*)")
Problem = tuple[str, str]


@dataclass(frozen=True)
class CaseFolder:
    """One case's files, found but not yet read."""

    name: str
    """The folder's name."""
    patient: str
    """Pseudonym from case.json, or the folder's name."""
    synthetic: bool
    files: dict[str, Path]
    """By "image", "liver", "R1", ...; raters in order."""
    problems: tuple[Problem, ...]
    """(file, what is wrong with it)."""

    @property
    def raters(self) -> tuple[str, ...]:
        """Raters that have a contour, in order."""
        return tuple(name for name in self.files if name not in ("image", "liver"))


def find_cases(data: Path) -> list[CaseFolder]:
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
            f"data folder '{data}' has no case: it needs one folder a case with image, liver and "
            f"tumor_R1 as {', '.join(SUFFIXES)}"
        )
    return [_case(folder) for folder in folders]


def case_key(files: Mapping[str, Path], preparation: PreparationSettings) -> str:
    """Return the hash (hex) of the files' bytes and of all that decides what becomes of them.

    Neither the case's name nor where it lies is part of it.
    """
    return digest(
        {
            "files": {name: file_hash(path) for name, path in files.items()},
            "preparation": preparation.changed,
            "preparation_version": PREPARATION_VERSION,
        }
    )


def file_hash(path: Path) -> str:
    """Return the SHA-256 (hex) of a file, with the voxels that its header may have elsewhere.

    Raises CaseError if it cannot be read.
    """
    state = sha256()
    try:
        separate = data_file(path)
        for part in (path, separate) if separate and separate.is_file() else (path,):
            for chunk in chunks(part):
                state.update(chunk)
    except OSError as error:
        raise CaseError(f"'{path.name}' cannot be read: {error.strerror or error}") from error
    return state.hexdigest()


def read_volumes(files: Mapping[str, Path]) -> tuple[dict[str, Volume], list[Problem]]:
    """Return every volume of a case that can be used, and everything that is wrong.

    Masks must lie on the image's grid; without a readable image nothing is compared.
    """
    volumes: dict[str, Volume] = {}
    problems: list[Problem] = []
    for name, path in files.items():
        try:
            volume = read(path) if name == "image" else read_mask(path)
            if name != "image" and "image" in volumes:
                check_same_grid(volumes["image"], volume, path.name)
            volumes[name] = volume
        except CaseError as error:
            problems.append((path.name, str(error)))
    return volumes, problems


def _case(folder: Path) -> CaseFolder:
    problems: list[Problem] = []
    found: dict[str, list[Path]] = {}
    try:
        paths = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        wrong = (("", f"the folder cannot be read: {error.strerror}"),)
        return CaseFolder(folder.name, folder.name, False, {}, wrong)
    for path in paths:
        suffix = next((s for s in SUFFIXES if path.name.endswith(s)), None)
        stem = _STEM.fullmatch(path.name.removesuffix(suffix)) if suffix else None
        if stem:
            found.setdefault(stem.group(1) or stem.group(), []).append(path)
        elif path.name.lower().startswith("tumor") and path.suffix != ".raw":
            problems.append((path.name, f"'{path.name}' is not understood; expected tumor_R1, ..."))
    for several in (p for p in found.values() if len(p) > 1):
        names = ", ".join(f"'{p.name}'" for p in several)
        problems.append((several[0].name, f"there are several: {names}; keep one"))
    problems += [(n, f"there is no '{n}' file") for n in ("image", "liver") if n not in found]
    patient, synthetic, more = _description(folder)
    ordered = sorted(found, key=lambda n: (n not in ("image", "liver"), len(n), n))
    files = {name: found[name][0] for name in ordered}
    return CaseFolder(folder.name, patient, synthetic, files, tuple(problems + more))


def _description(folder: Path) -> tuple[str, bool, list[Problem]]:
    """Return patient and synthetic from case.json, or their defaults, and what is wrong in it."""
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

"""A data folder as people fill it: one folder per case, and the files in each.

data/case 01/image.nii.gz  liver.nii.gz  tumor_R1.nii.gz ...  case.json
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from liverseg.core.data.dataset import Role
from liverseg.core.volumes.volume import Spacing
from liverseg.errors import LiversegError, SettingsError
from liverseg.imaging.stored_file import data_file
from liverseg.imaging.suffixes import NIFTI_SUFFIXES, SUFFIXES, is_segmentation, stem_of, suffix_of
from liverseg.platform.file_names import readable
from liverseg.storage.record import Sha256

_STEM = re.compile(r"image|liver|tumor_(R[1-9][0-9]*)")
# What a contour may be called: a rater would be lost if it were passed over. R0 and R01 are none.
_LIKE_A_CONTOUR = re.compile(r"tumou?r|lesion|metasta|(?:^|[^a-z])r\d+(?:[^a-z0-9]|$)")
_EXPECTED = "expected image, liver and tumor_R1, tumor_R2, ..., with " + ", ".join(SUFFIXES)
# What people note beside the volumes, which nobody misses: texts and tables.
_NOTES = (
    ".csv", ".docx", ".html", ".json", ".log", ".md", ".pdf", ".rst", ".tsv", ".txt", ".xlsx",
    ".xml", ".yaml", ".yml",
)  # fmt: skip
_NOTES_WITHOUT_SUFFIX = ("license", "notes", "readme")
# Pictures, and the voxels of a header, are not taken for a rater's contour by their names.
_NO_CONTOURS = (*_NOTES, ".jpeg", ".jpg", ".png", ".raw", ".zraw")
_RAW = (".raw", ".raw.gz", ".zraw")
_MOST_NAMES = 10
"""Of files that are not used; a folder of DICOM slices has hundreds."""
# What systems leave behind: of an archive, a NAS, a recycle bin, a repaired disk.
_OF_SYSTEMS = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found")
Problem = tuple[str, str]


@dataclass(frozen=True)
class ScannedCase:
    """A case of the data folder, and what the scan has learned about it so far.

    `find_case` fills the first fields, `check_case` those after `problems` but for the role;
    problems and warnings are added by both.
    """

    name: str
    """The folder's name."""
    patient: str
    """Pseudonym from case.json, or the folder's name."""
    synthetic: bool
    files: dict[str, str]
    """Path below the data folder by "image", "liver", "R1", ..."""
    problems: tuple[Problem, ...]
    """(file, what is wrong with it)."""
    sha256: dict[str, Sha256] = field(default_factory=dict)
    """SHA-256 (hex) of every file that can be read, by the same names as `files`."""
    key: str = ""
    """Of the prepared case; empty unless every file can be read."""
    shape: tuple[int, int, int] | None = None
    """Voxels (z, y, x); None if the image cannot be read."""
    spacing_mm: Spacing | None = None
    lesion_ml: dict[str, float] = field(default_factory=dict)
    """Contoured volume by rater."""
    prepared: bool = False
    """Was in the store before it was checked."""
    role: Role | None = None
    """None before all cases are known, and where the split itself is wrong."""
    warnings: tuple[Problem, ...] = ()
    """(file, what is unlikely about it or not used); no reason to refuse the case."""

    @property
    def raters(self) -> tuple[str, ...]:
        """Raters that have a contour, in order."""
        names = (name for name in self.files if name not in ("image", "liver"))
        return tuple(sorted(names, key=lambda name: (len(name), name)))


def case_names(data: Path) -> list[str]:
    """Return the name of every case of the folder, sorted.

    Folders that are hidden, or hold hidden files only, are no cases. A name that is not UTF-8 is
    given as one that can be shown and stored (platform/file_names.py).

    Raises SettingsError if there is no such folder or no case in it.
    """
    if not data.is_dir():
        raise SettingsError(f"data folder '{data}' does not exist or is not a folder")
    try:
        folders = (path for path in data.iterdir() if path.is_dir() and _is_case(path))
        names = sorted(readable(folder.name) for folder in folders)
    except OSError as error:
        raise SettingsError(f"data folder '{data}' cannot be read: {error.strerror}") from error
    if not names:
        raise SettingsError(
            f"data folder '{data}' has no case: it needs one folder per case with image, liver and "
            f"tumor_R1 as {', '.join(SUFFIXES)}"
        )
    return names


def find_case(data: Path, name: str) -> ScannedCase:
    """Return the case with this name: which files it has, and all that it has and is not used.

    Only case.json is read, and where other files are there the headers, which may name them.
    """
    folder = data / name
    try:
        paths = sorted(path for path in folder.iterdir() if not is_hidden(path))
    except OSError as error:
        problem = ("", f"the folder cannot be read: {error.strerror}")
        return ScannedCase(name, name, False, {}, (problem,))
    problems: list[Problem] = []
    paths_by_name: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in paths:
        stem = _STEM.fullmatch(stem_of(path)) if suffix_of(path) else None
        if stem and not (stem.group() == "image" and is_segmentation(path)):
            paths_by_name.setdefault(stem.group(1) or stem.group(), []).append(path)
        elif not _is_note(path):
            others.append(path)
    headers = [p for ps in paths_by_name.values() for p in ps if suffix_of(p) not in NIFTI_SUFFIXES]
    others = _without_voxels(others, headers)
    contours = [path for path in others if _could_be_a_contour(path)]
    for path in contours:
        text = f"'{path.name}' is not understood and would be lost: {_EXPECTED}"
        problems.append((path.name, text))
    for same in (p for p in paths_by_name.values() if len(p) > 1):
        names = ", ".join(f"'{p.name}'" for p in same)
        problems.append((same[0].name, f"there are several: {names}; keep one"))
    missing = [file for file in ("image", "liver") if file not in paths_by_name]
    problems += [(file, f"there is no '{file}' file") for file in missing]
    patient, synthetic, in_description = _description(folder)
    ordered = sorted(paths_by_name, key=lambda n: (n not in ("image", "liver"), len(n), n))
    files = {file: paths_by_name[file][0].relative_to(data).as_posix() for file in ordered}
    return ScannedCase(
        name,
        patient,
        synthetic,
        files,
        tuple(problems + in_description),
        warnings=_not_used([path for path in others if path not in contours]),
    )


def _not_used(paths: Sequence[Path]) -> tuple[Problem, ...]:
    """Return one warning that names what is in a case's folder and is not read, if there is any."""
    if not paths:
        return ()
    names = [f"'{p.name}'" + (" (a folder)" if p.is_dir() else "") for p in paths[:_MOST_NAMES]]
    if more := len(paths) - len(names):
        names.append(f"and {more} more")
    file = paths[0].name if len(paths) == 1 else ""
    return ((file, f"not used: {', '.join(names)}; {_EXPECTED}"),)


def _without_voxels(paths: Sequence[Path], headers: Sequence[Path]) -> list[Path]:
    """Return the files that are not the voxels of a header; it is read if its name does not say."""
    stems = {stem_of(header) for header in headers}
    left = [
        path
        for path in paths
        if not (path.name.lower().endswith(_RAW) and path.name.partition(".")[0] in stems)
    ]
    voxels = set()
    for header in headers if left else ():
        with suppress(LiversegError, OSError):  # what is wrong is told where it is read
            voxels.add(data_file(header))
    return [path for path in left if path not in voxels]


def _is_note(path: Path) -> bool:
    """Say whether a file is a text or a table, or goes with a volume, as its checksum does."""
    if path.is_dir() or suffix_of(path):
        return False
    return (
        path.name.lower().endswith(_NOTES)
        or path.stem.lower() in _NOTES_WITHOUT_SUFFIX
        or any(suffix_of(volume) for volume in _belongs_to(path))
    )


def _belongs_to(path: Path) -> list[Path]:
    """Return the file with whose name a file's begins: of its checksum, or of its older version."""
    beside = path.with_suffix(""), path.with_name(path.name.rstrip("~") or path.name)
    return [file for file in beside if file != path and file.exists()]


def _is_case(folder: Path) -> bool:
    """Say whether a folder is meant as a case; one that cannot be read is, to be reported."""
    if is_hidden(folder):
        return False
    try:
        names = list(folder.iterdir())
    except OSError:
        return True
    # An empty one may be what an interrupted copy has left of a case.
    return not names or not all(is_hidden(path) for path in names)


def is_hidden(path: Path) -> bool:
    """Say whether a folder or file is one that users do not see, or that their system made."""
    return path.name.startswith(".") or path.name in _OF_SYSTEMS


def _could_be_a_contour(path: Path) -> bool:
    """Say whether a file that is no case's file may be a rater's contour under another name."""
    if _belongs_to(path):
        return False
    name = path.name.lower()
    other = name.startswith(("image", "liver")) or name.endswith(_NO_CONTOURS) or "map" in name
    return not other and _LIKE_A_CONTOUR.search(name) is not None


def _description(folder: Path) -> tuple[str, bool, list[Problem]]:
    """Return patient and synthetic from case.json, or their defaults, and what is wrong with it."""
    path = folder / "case.json"
    if not path.exists():
        return folder.name, False, []
    if not path.is_file():
        return folder.name, False, [(path.name, "'case.json' is not a regular file")]
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        return folder.name, False, [(path.name, f"'case.json' cannot be read: {error}")]
    if not isinstance(values, dict):
        return folder.name, False, [(path.name, "'case.json' must be a table of values")]
    patient, synthetic = values.get("patient", folder.name), values.get("synthetic", False)
    problems = []
    # Half a character, which JSON can write, is not text.
    if not isinstance(patient, str) or not patient or readable(patient) != patient:
        problems.append((path.name, f"'patient' must be a pseudonym in quotes, not {patient!r}"))
        patient = folder.name
    if not isinstance(synthetic, bool):
        problems.append((path.name, f"'synthetic' must be true or false, not {synthetic!r}"))
        synthetic = False
    return patient, synthetic, problems

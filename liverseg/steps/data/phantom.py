"""Write a folder of synthetic cases, with the split that goes with them."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from liverseg.core.data.dataset import Role
from liverseg.core.phantom.phantom import PHANTOM_VERSION, PhantomCase, phantom, raters_of
from liverseg.errors import SettingsError, StoreError
from liverseg.imaging.files import nifti_bytes
from liverseg.settings import Settings
from liverseg.steps.data.case_files import decode_files, load_files
from liverseg.steps.data.case_folder import find_case
from liverseg.storage.files import flush_folder, write_files

Progress = Callable[[str, int, int], None]
DESCRIPTION_FILE = "phantom.json"
SPLIT_FILE = "split.json"

# The role of case i is letter i modulo 16 (from 0): 7 train, 5 validate, 4 test, and any three
# cases from the start have one of each. The case without lesion (letter 3) trains, where it
# teaches; the one without R3 (letter 2) tests, where raters are compared.
_ROLES: dict[str, Role] = {"t": "training", "v": "validation", "s": "test"}
_PATTERN = "tvstvstvstvtsvtt"


def run(
    out: Path,
    cases: int = 16,
    seed: int = 0,
    progress: Progress = lambda _what, _done, _total: None,
) -> list[Path]:
    """Write cases 1 .. `cases` of the phantom with this seed and return their folders.

    Cases that exist stay as they are, so a second run writes nothing and a larger number adds
    cases. `split.json` beside them names the validation and test cases.

    Raises:
        SettingsError: `cases` < 1, or `out` holds something other than this phantom, or a case of
            it that lacks a file or has one that cannot be read.
        StoreError: `out` cannot be written.
    """
    if cases < 1:
        raise SettingsError(f"cases ({cases}) must be at least 1")
    description = {"phantom_version": PHANTOM_VERSION, "seed": seed}
    _check(out, description, cases)
    _check_whole(out, cases)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_json(out / DESCRIPTION_FILE, description)
        folders = [out / _name(index) for index in range(cases)]
        for index, folder in enumerate(folders):
            progress(f"phantom {folder.name}", index, cases)
            if not folder.exists():
                _write_case(folder, phantom(seed, index))
        _write_json(out / SPLIT_FILE, split(cases))
    except OSError as error:
        raise StoreError(f"cannot write '{out}': {error.strerror or error}") from error
    progress("phantom", cases, cases)
    return folders


def split(cases: int) -> dict[str, list[str]]:
    """Return the split file's lists; cases in none of them train."""
    lists: dict[str, list[str]] = {"test": [], "validation": []}
    for index in range(cases):
        role = _ROLES[_PATTERN[index % len(_PATTERN)]]
        if role in lists:
            lists[role].append(_name(index))
    return lists


def _name(index: int) -> str:
    return f"phantom_{index + 1:02d}"


def _check(out: Path, description: dict[str, Any], cases: int) -> None:
    """Refuse a folder that holds anything but the first cases of this very phantom."""
    if not out.exists():
        return
    if not out.is_dir():
        raise SettingsError(f"'{out}' is not a folder; choose another one for the phantom")
    names = {p.name for p in out.iterdir() if not p.name.startswith(".")}
    if not names:
        return
    path = out / DESCRIPTION_FILE
    existing = None
    with suppress(OSError, ValueError):  # absent, or no JSON: it is not our phantom's
        existing = json.loads(path.read_bytes())
    expected = {DESCRIPTION_FILE, SPLIT_FILE, *(_name(i) for i in range(cases))}
    if existing != description or not names <= expected:
        contents = "other files" if existing is None else f"the phantom {existing}"
        if existing == description:
            contents = f"also {', '.join(sorted(names - expected)[:3])}"
        raise SettingsError(
            f"'{out}' holds {contents}, not {cases} cases of the phantom {description}; choose "
            "another folder or empty it"
        )


def _check_whole(out: Path, cases: int) -> None:
    """Refuse a case that is there and is not as it was written; nobody knows why it is not."""
    broken = []
    for index in range(cases):
        case = find_case(out, _name(index))
        if not (out / case.name).exists():
            continue
        expected = {"image", "liver", *raters_of(index)}
        problems = [f"there is no '{name}'" for name in sorted(expected - case.files.keys())]
        stored, unreadable = load_files({name: out / path for name, path in case.files.items()})
        _, _, undecodable = decode_files(stored, Settings())
        problems += [text for _, text in (*case.problems, *unreadable, *undecodable)]
        if problems or case.files.keys() != expected or not case.synthetic:
            what = problems[0] if problems else "it has other files or another case.json"
            broken.append(f"'{out / case.name}': {what}")
    if broken:
        raise SettingsError(
            f"{len(broken)} of the phantom's cases are broken: {'; '.join(broken[:5])}; delete "
            "these folders, and the same command writes them again"
        )


def _write_case(folder: Path, case: PhantomCase) -> None:
    """Write into a hidden folder and rename it: a case appears whole or not at all."""
    # The number keeps the process of a make that was killed from disturbing the next one's.
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    for left in folder.parent.glob(f".{folder.name}.*.part"):
        if not _runs(left.suffixes[-2].removeprefix(".")):
            shutil.rmtree(left, ignore_errors=True)
    volumes = {"image": case.image, "liver": case.liver}
    volumes |= {f"tumor_{name}": volume for name, volume in case.raters.items()}
    pseudonym = folder.name.upper().replace("_", "-")
    files = {part / f"{name}.nii.gz": nifti_bytes(volume) for name, volume in volumes.items()}
    files[part / "case.json"] = _json({"patient": pseudonym, "synthetic": True})
    try:
        write_files(files)
        part.rename(folder)
        flush_folder(folder.parent)
    except OSError:
        # The same case, written by that process a moment before.
        if not (folder / "case.json").is_file():
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _runs(process: str) -> bool:
    """Return whether the process of that number is alive, and is another one."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    return int(process) != os.getpid()


def _write_json(path: Path, values: dict[str, Any]) -> None:
    data = _json(values)
    if not path.is_file() or path.read_bytes() != data:
        write_files({path: data})


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()

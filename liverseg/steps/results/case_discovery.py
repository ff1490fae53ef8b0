"""Which files make up the cases of an evaluation: one case, or a folder of them.

A file is named by a pattern: a path below each case's folder, or any path in which `{case}`
stands for the case's name.
"""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from liverseg.errors import CaseError, SettingsError
from liverseg.platform.file_names import readable
from liverseg.steps.data.case_folder import is_hidden

CASE = "{case}"


@dataclass(frozen=True)
class Patterns:
    """What was asked for, by name in the order given."""

    raters: Mapping[str, str]
    algorithms: Mapping[str, str]
    liver: str | None = None


@dataclass(frozen=True)
class CaseFiles:
    """One case's files."""

    name: str
    """As it is shown (platform/file_names.py)."""
    raters: Mapping[str, Path]
    algorithms: Mapping[str, Path]
    liver: Path | None = None
    absent_raters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Excluded:
    """A case that cannot be evaluated, and why."""

    case: str
    reason: str


def names_many_cases(patterns: Patterns, folder: Path | None) -> bool:
    """Say whether patterns name many cases, or the files of one."""
    return folder is not None or any(CASE in pattern for pattern in _all(patterns))


def one_case(patterns: Patterns) -> CaseFiles:
    """Return the case whose files are named outright; it is called as its first reference."""
    raters = {name: Path(path) for name, path in patterns.raters.items()}
    liver = None if patterns.liver is None else Path(patterns.liver)
    name = readable(next(iter(raters.values())).name.split(".")[0])
    algorithms = {name: Path(path) for name, path in patterns.algorithms.items()}
    return CaseFiles(name, raters, algorithms, liver)


def find(patterns: Patterns, folder: Path | None) -> tuple[list[CaseFiles], list[Excluded]]:
    """Return the cases, sorted by name, and those that lack files.

    A rater may be absent in a case; a case without any rater, without one of the algorithms or
    without its liver is left out. A name whose files all belong to another case is no case: with
    "{case}.nii.gz" and "{case}_pred.nii.gz" in one folder, "c1_pred.nii.gz" belongs to c1.

    Raises:
        SettingsError: The folder does not exist, or a pattern has no {case} for the case's name.
        CaseError: There is no case at all.
    """
    names = _names(patterns, folder)
    if not names:
        where = f"'{folder}' has no folder" if folder else "no file fits the patterns"
        raise CaseError(f"{where}; a case is a folder, or {CASE} in a file's path")
    complete: list[CaseFiles] = []
    excluded: list[Excluded] = []
    present = {name: _present(name, patterns, folder) for name in names}
    for name in names:
        case = _case(name, patterns, folder)
        if isinstance(case, CaseFiles):
            complete.append(case)
        elif not _is_of_another(name, present, folder):
            excluded.append(_with_advice(case, name, present))
    return complete, excluded


def paths_of(case: CaseFiles) -> list[Path]:
    """Return every file of a case."""
    liver = [] if case.liver is None else [case.liver]
    return [*case.raters.values(), *case.algorithms.values(), *liver]


def _path(name: str, pattern: str, folder: Path | None) -> Path:
    if CASE in pattern:
        return Path(pattern.replace(CASE, name))
    assert folder is not None
    return folder / name / pattern


def _present(name: str, patterns: Patterns, folder: Path | None) -> set[Path]:
    """Return the files of a case that are there."""
    paths = {_path(name, pattern, folder) for pattern in _all(patterns)}
    return {path for path in paths if path.exists()}


def _is_of_another(name: str, present: Mapping[str, set[Path]], folder: Path | None) -> bool:
    """Say whether all that is there under a name belongs to another case.

    Of two names that stand for the same files the shorter one is the case's.
    """
    mine = present[name]
    if not mine:
        files = (path for files in present.values() for path in files)
        return folder is not None and any(folder / name in path.parents for path in files)
    return any(
        mine <= files and (mine != files or len(other) < len(name))
        for other, files in present.items()
        if other != name
    )


def _with_advice(case: Excluded, name: str, present: Mapping[str, set[Path]]) -> Excluded:
    """Return it with what to do where its name is that of another case and something after it."""
    others = [n for n in present if name.startswith(n) and not name[len(n) :][:1].isalnum()]
    others.remove(name)
    if not others or not present[name]:
        return case
    files = ", ".join(f"'{path.name}'" for path in sorted(present[name]))
    longest = max(others, key=len)
    advice = (
        f"; if {files} belongs to the case '{longest}', move it to another folder, or name it with "
        f"'{CASE}{name.removeprefix(longest)}' in a pattern"
    )
    return Excluded(case.case, case.reason + readable(advice))


def _case(name: str, patterns: Patterns, folder: Path | None) -> CaseFiles | Excluded:
    def path(pattern: str) -> Path:
        return _path(name, pattern, folder)

    raters = {rater: path(pattern) for rater, pattern in patterns.raters.items()}
    present = {rater: file for rater, file in raters.items() if file.exists()}
    algorithms = {algorithm: path(pattern) for algorithm, pattern in patterns.algorithms.items()}
    lacking = [f"'{f.name}' ({a})" for a, f in algorithms.items() if not f.exists()]
    liver = None if patterns.liver is None else path(patterns.liver)
    if not present:
        files = ", ".join(f"'{file.name}' ({rater})" for rater, file in raters.items())
        return _left_out(name, f"no reference: {files} is not there")
    if lacking:
        return _left_out(name, f"no prediction: {', '.join(lacking)} is not there")
    if liver is not None and not liver.exists():
        return _left_out(name, f"no liver: '{liver.name}' is not there")
    absent = tuple(rater for rater in raters if rater not in present)
    return CaseFiles(readable(name), present, algorithms, liver, absent)


def _left_out(name: str, why: str) -> Excluded:
    return Excluded(readable(name), readable(why))


def _names(patterns: Patterns, folder: Path | None) -> list[str]:
    if folder is not None:
        if not folder.is_dir():
            raise SettingsError(f"--cases '{folder}' is not a folder")
        folders = (e for e in folder.iterdir() if e.is_dir() and not is_hidden(e))
        return sorted(entry.name for entry in folders)
    for pattern in _all(patterns):
        if pattern.count(CASE) != 1:
            raise SettingsError(
                f"'{pattern}' must have {CASE} once, as the others do; or name the folder of the "
                "cases' folders with --cases"
            )
    # A prediction without a reference is told as such: every pattern finds cases.
    names = set()
    for pattern in (*patterns.raters.values(), *patterns.algorithms.values()):
        before, _, after = pattern.partition(CASE)
        # Path.glob would refuse absolute patterns.
        for path in glob.glob(glob.escape(before) + "*" + glob.escape(after)):  # noqa: PTH207
            names.add(path[len(before) : len(path) - len(after)])
    return sorted(names)


def _all(patterns: Patterns) -> Sequence[str]:
    liver = [patterns.liver] if patterns.liver else []
    return [*patterns.raters.values(), *patterns.algorithms.values(), *liver]

"""Look at all of the data before anything is computed, and say everything that is wrong."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from liverseg.core.data.dataset import CaseRecord, Dataset, Role
from liverseg.core.data.split import ROLES, assign
from liverseg.core.volumes.grid import NetworkGrid
from liverseg.errors import CaseError, SettingsError
from liverseg.settings import Settings
from liverseg.steps.data.case_check import CheckedCase, check_case
from liverseg.steps.data.case_folder import CaseFolder, find_cases
from liverseg.steps.data.cases import save_dataset
from liverseg.storage.port import ObjectStore

Progress = Callable[[str, int, int], None]
# Beside the cases; taken where no other split is given.
SPLIT_FILE = "split.json"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong; `case` and `file` are empty where it concerns the whole data."""

    case: str
    file: str
    problem: str


@dataclass(frozen=True)
class ScanRow:
    """One case as the table shows it."""

    case: str
    patient: str
    role: Role | None
    """None where the split itself is wrong."""
    shape: tuple[int, int, int] | None
    """Voxels (z, y, x); None if the image cannot be read."""
    spacing_mm: tuple[float, float, float] | None
    raters: tuple[str, ...]
    lesion_ml: dict[str, float]
    """Contoured volume by rater."""
    synthetic: bool
    prepared: bool
    """Already in the store: `preprocess` will reuse it."""
    problems: int


@dataclass(frozen=True)
class ScanResult:
    """What was found; `dataset` is None if it cannot be used as it is."""

    dataset: Dataset | None
    findings: list[Finding]
    rows: list[ScanRow]
    excluded: list[str]
    """Cases left out because data.refused_cases is "exclude"."""

    def error(self, data: Path) -> CaseError | SettingsError:
        """Return what to raise where there is no dataset: the split's fault, or the cases'."""
        text = f"{len(self.findings)} problems in '{data}'; nothing was written"
        if all(not finding.case for finding in self.findings):
            return SettingsError("; ".join(finding.problem for finding in self.findings))
        return CaseError(text)


def run(
    data: Path,
    store: ObjectStore,
    settings: Settings,
    split: Path | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> ScanResult:
    """Check every case and the split; write the data set to the store only if it can be used.

    Args:
        data: One folder a case.
        store: Where `datasets/<digest>.json` goes, and where prepared cases may already lie.
        settings: `data` decides the roles and what happens to refused cases.
        split: JSON {"test": [case, ...], "validation": [...]}; None for the data folder's
            `split.json`, or without one the rule on the patient.
        progress: Called before each case.

    Raises:
        SettingsError: No such folder, no case in it, no readable split file, or a patch that the
            network cannot take.
    """
    NetworkGrid(settings.network).output_size(settings.training.patch)
    folders = find_cases(data)
    if split is None and (data / SPLIT_FILE).is_file():
        split = data / SPLIT_FILE
    lists = None if split is None else read_split(split)
    looked = []
    for number, folder in enumerate(folders):
        progress(f"check {folder.name}", number, len(folders))
        looked.append(check_case(folder, store, settings))
    progress("check", len(folders), len(folders))
    roles, wrong = _roles(folders, lists, settings)
    looked = [_with_role(case, roles.get(case.folder.name), settings) for case in looked]
    looked = _with_leaks(looked, roles)
    excluded = [c.folder.name for c in looked if c.problems]
    kept = [c for c in looked if not c.problems]
    wrong += _missing_roles(kept, roles, split)
    findings = [Finding(c.folder.name, *p) for c in looked for p in c.problems] + wrong
    dataset = None
    if not wrong and (not excluded or settings.data.refused_cases == "exclude"):
        dataset = Dataset(
            tuple(_record(c, roles[c.folder.name], data) for c in kept),
            settings.preparation,
            tuple((c.folder.name, problem) for c in looked for _, problem in c.problems[:1]),
        )
        save_dataset(store, dataset)
    rows = [_row(c, roles.get(c.folder.name)) for c in looked]
    return ScanResult(dataset, findings, rows, excluded if dataset else [])


def read_split(path: Path) -> dict[str, list[str]]:
    """Return the lists of a split file; raises SettingsError."""
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"split file '{path}' cannot be read: {error}") from error
    if not isinstance(lists, dict) or not all(
        isinstance(names, list) and all(isinstance(n, str) for n in names)
        for names in lists.values()
    ):
        raise SettingsError(
            f"split file '{path}' must look like "
            '{"test": ["case_02"], "validation": ["case_08"]}; all other cases train'
        )
    return lists


def _roles(
    folders: Sequence[CaseFolder], lists: Mapping[str, Sequence[str]] | None, settings: Settings
) -> tuple[dict[str, Role], list[Finding]]:
    """Return every case's role; a split that is wrong is one finding beside the others."""
    fractions = settings.data.validation_fraction, settings.data.test_fraction
    try:
        return assign({f.name: f.patient for f in folders}, lists, *fractions), []
    except SettingsError as error:
        return {}, [Finding("", "", str(error))]


def _with_role(case: CheckedCase, role: Role | None, settings: Settings) -> CheckedCase:
    """Add what the role asks for: the training rater, or any rater in a test case."""
    wanted, raters = settings.data.training_rater, case.folder.raters
    problem = None
    if role in ("training", "validation") and wanted not in raters:
        problem = (
            f"tumor_{wanted}",
            f"there is no 'tumor_{wanted}' file, which a {role} case needs; where there is no "
            "lesion the mask is empty",
        )
    elif role == "test" and not raters:
        problem = ("tumor_R1", "a test case needs at least one rater, such as 'tumor_R1'")
    return replace(case, problems=(*case.problems, problem)) if problem else case


def _with_leaks(looked: Sequence[CheckedCase], roles: Mapping[str, Role]) -> list[CheckedCase]:
    """Refuse a copy of an image on another side: a test case that was trained on is no test."""
    first: dict[str, CheckedCase] = {}
    result = []
    for case in looked:
        other = first.setdefault(case.image_hash, case) if case.image_hash else case
        ours, theirs = roles.get(case.folder.name), roles.get(other.folder.name)
        if ours != theirs:
            problem = (
                f"the image is a copy of '{other.folder.name}', which is {theirs}, and this case "
                f"is {ours}; give both the same 'patient' in case.json"
            )
            case = replace(case, problems=(*case.problems, ("image", problem)))
        result.append(case)
    return result


def _missing_roles(
    kept: Sequence[CheckedCase], roles: Mapping[str, Role], split: Path | None
) -> list[Finding]:
    if not roles:
        return []
    there = {roles[case.folder.name] for case in kept}
    advice = (
        "name one in a split file (--split) or raise data.validation_fraction and "
        "data.test_fraction"
        if split is None
        else f"change '{split.name}' so that one is left for it"
    )
    return [
        Finding("", "", f"no usable {role} case among {len(kept)}: {advice}")
        for role in ROLES
        if role not in there
    ]


def _record(case: CheckedCase, role: Role, data: Path) -> CaseRecord:
    assert case.shape is not None
    assert case.spacing_mm is not None
    folder = case.folder
    return CaseRecord(
        name=folder.name,
        patient=folder.patient,
        role=role,
        key=case.key,
        raters=folder.raters,
        files={name: path.relative_to(data).as_posix() for name, path in folder.files.items()},
        shape=case.shape,
        spacing_mm=case.spacing_mm,
        synthetic=folder.synthetic,
    )


def _row(case: CheckedCase, role: Role | None) -> ScanRow:
    f = case.folder
    return ScanRow(
        case=f.name,
        patient=f.patient,
        role=role,
        shape=case.shape,
        spacing_mm=case.spacing_mm,
        raters=f.raters,
        lesion_ml=case.lesion_ml,
        synthetic=f.synthetic,
        prepared=case.prepared,
        problems=len(case.problems),
    )

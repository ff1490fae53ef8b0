"""Check all data before a study is opened, and report all problems together.

First each case alone (`check_cases`), then all of them together (`collect`). On one machine that is
`run`; in the pipeline scan_shards.py does the first part in several parallel tasks.

The way of a case: `case_folder` finds its files, `case_check` reads them with `case_files` and
prepares it with `preparation`, which also writes it to the store; `cases` reads it from there for
every later step, and network/patches.py cuts it into patches.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from liverseg.core.data.dataset import CaseRecord, Dataset, Role
from liverseg.core.data.plausibility import SpacingRange, judge_spacing
from liverseg.core.data.split import ROLES, assign
from liverseg.core.volumes.grid import NetworkGrid
from liverseg.errors import CaseError, IntegrityError, SettingsError, StoreError, reason
from liverseg.platform.file_names import readable, undecodable
from liverseg.settings import Settings
from liverseg.steps.data.case_check import check_case
from liverseg.steps.data.case_folder import Problem, ScannedCase, case_names
from liverseg.steps.data.cases import save_dataset
from liverseg.storage.port import ObjectStore

Progress = Callable[[str, int, int], None]
# Beside the cases; taken where no other split is given.
SPLIT_FILE = "split.json"


@dataclass(frozen=True)
class Split:
    """A split file."""

    file: str
    """Its name, for messages."""
    lists: dict[str, list[str]]
    """Names of cases by role."""


@dataclass(frozen=True)
class Finding:
    """Something wrong or unlikely; `case` and `file` are empty where it concerns the whole data."""

    case: str
    file: str
    problem: str


@dataclass(frozen=True)
class ScanResult:
    """All cases and all that is wrong; `dataset` is None if it cannot be used as it is."""

    dataset: Dataset | None
    findings: list[Finding]
    cases: list[ScannedCase]
    excluded: list[str]
    """Cases left out because data.refused_cases is "exclude"."""
    warnings: list[Finding]
    """What is unlikely, and refuses nothing."""

    def error(self, data: Path | str) -> CaseError | SettingsError:
        """Return what to raise where there is no dataset: the split's fault, or the cases'."""
        count = "1 problem" if len(self.findings) == 1 else f"{len(self.findings)} problems"
        text = f"{count} in '{data}'; no data set was written"
        if all(not finding.case for finding in self.findings):
            return SettingsError("; ".join(finding.problem for finding in self.findings))
        return CaseError(text)


def run(
    data: Path,
    store: ObjectStore,
    settings: Settings,
    split: Path | None = None,
    progress: Progress = lambda _what, _done, _total: None,
    *,
    keep_prepared: bool = False,
) -> ScanResult:
    """Check every case and the split; write the data set to the store only if it can be used.

    Args:
        data: One folder per case.
        store: Where `datasets/<digest>.json` goes, and where prepared cases may already lie.
        settings: `data` decides the roles and what happens to refused cases.
        split: JSON {"test": [case, ...], "validation": [...]}; None for the data folder's
            `split.json`, or without one the rule on the patient.
        progress: Called before each case.
        keep_prepared: Write each case that can be used, which the check has prepared in memory, to
            the store: scan and preprocess in one pass over the files.

    Raises:
        SettingsError: No such folder, no case in it, no readable split file, or a patch that the
            network cannot take.
    """
    names = case_names(data)
    chosen = chosen_split(data, split, settings)
    cases = check_cases(data, names, store, settings, progress, keep=keep_prepared)
    return collect(cases, chosen, store, settings)


def chosen_split(data: Path, split: Path | None, settings: Settings) -> Split | None:
    """Return the split that `run` takes, after what can be refused before a case is read.

    Raises SettingsError as `run`.
    """
    NetworkGrid(settings.network).output_size(settings.training.patch)
    if split is None and (data / SPLIT_FILE).is_file():
        split = data / SPLIT_FILE
    return None if split is None else read_split(split)


def check_cases(
    data: Path,
    names: Sequence[str],
    store: ObjectStore,
    settings: Settings,
    progress: Progress = lambda _what, _done, _total: None,
    *,
    keep: bool = False,
) -> list[ScannedCase]:
    """Check each of these cases alone; see `check_case`. `progress` is called before each.

    Whatever a library raises is a problem of its case, and the others are checked all the same.
    """
    cases = []
    for number, name in enumerate(names):
        progress(f"check {name}", number, len(names))
        cases.append(_checked(data, name, store, settings, keep))
    progress("check", len(names), len(names))
    return cases


def _checked(
    data: Path, name: str, store: ObjectStore, settings: Settings, keep: bool
) -> ScannedCase:
    """Return what `check_case` does; what is shown of names of files is made readable."""
    if undecodable(data, name):
        renamed = "the folder's name is not UTF-8, so that no other program can be given it; rename"
        return ScannedCase(name, name, False, {}, (("", f"{renamed} it"),))
    try:
        case = check_case(data, name, store, settings, keep=keep)
    except (SettingsError, StoreError, IntegrityError):  # these are of no single case
        raise
    except Exception as error:  # noqa: BLE001 - whatever a library raises is this case's error
        case = ScannedCase(name, name, False, {}, (("", reason(error)),))
    problems, warnings = (
        tuple((readable(file), readable(text)) for file, text in listed)
        for listed in (case.problems, case.warnings)
    )
    return replace(case, problems=problems, warnings=warnings)


def collect(
    cases: Sequence[ScannedCase], split: Split | None, store: ObjectStore, settings: Settings
) -> ScanResult:
    """Check what only all cases together show; write the data set only if it can be used.

    That is each case's role and what it asks for, copies of an image that have two roles, roles
    that no case has, and spacings far from those of the training cases.
    """
    roles, findings = _roles(cases, split, settings)
    images: dict[str, ScannedCase] = {}
    judged = []
    for checked in cases:
        case = replace(checked, role=roles.get(checked.name))
        judged.append(_with_problems(case, _missing_rater(case, settings), _leak(case, images)))
    usable = [case for case in judged if not case.problems]
    # Of a case that has to be mended the role is not missing.
    left = usable if settings.data.refused_cases == "exclude" else judged
    findings += _missing_roles(left, split) if roles else []
    warnings = [Finding(case.name, *warning) for case in judged for warning in case.warnings]
    warnings += _spacings_not_trained_on(left, settings)
    warnings += _few_validation_patients(usable, split, settings)
    dataset = None
    if not findings and (len(usable) == len(judged) or settings.data.refused_cases == "exclude"):
        refused = [case for case in judged if case.problems]
        dataset = Dataset(
            tuple(_record(case) for case in usable),
            settings.preparation,
            tuple((case.name, case.problems[0][1]) for case in refused),
            settings.data.labels,
        )
        save_dataset(store, dataset)
    of_cases = [Finding(case.name, *problem) for case in judged for problem in case.problems]
    excluded = [name for name, _ in dataset.excluded] if dataset else []
    return ScanResult(dataset, of_cases + findings, judged, excluded, warnings)


def read_split(path: Path) -> Split:
    """Return a split file; raises SettingsError."""
    try:
        lists = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"split file '{path}' cannot be read: {error}") from error
    if not isinstance(lists, dict) or not all(
        isinstance(names, list) and all(isinstance(n, str) for n in names)
        for names in lists.values()
    ):
        raise SettingsError(
            f"split file '{path}' must look like "
            '{"test": ["case_02"], "validation": ["case_08"]}; all other cases train'
        )
    return Split(path.name, lists)


def _roles(
    cases: Sequence[ScannedCase], split: Split | None, settings: Settings
) -> tuple[dict[str, Role], list[Finding]]:
    """Return every case's role; a split that is wrong is one finding beside the others."""
    lists = None if split is None else split.lists
    fractions = settings.data.validation_fraction, settings.data.test_fraction
    try:
        return assign({c.name: c.patient for c in cases}, lists, *fractions), []
    except SettingsError as error:
        return {}, [Finding("", "", str(error))]


def _with_problems(case: ScannedCase, *problems: Problem | None) -> ScannedCase:
    return replace(case, problems=(*case.problems, *(p for p in problems if p is not None)))


def _missing_rater(case: ScannedCase, settings: Settings) -> Problem | None:
    """Return what the role asks for and is not there: the training rater, or in a test case any."""
    wanted = settings.data.training_rater
    if case.role in ("training", "validation") and wanted not in case.raters:
        return (
            f"tumor_{wanted}",
            f"there is no 'tumor_{wanted}' file, which a {case.role} case needs; where there is no "
            "lesion the mask is empty",
        )
    if case.role == "test" and not case.raters:
        return "tumor_R1", "a test case needs at least one rater, such as 'tumor_R1'"
    return None


def _leak(case: ScannedCase, images: dict[str, ScannedCase]) -> Problem | None:
    """Return a problem if the image is that of a case with another role: training on a test image.

    Args:
        case: The one to look at.
        images: First case by image's SHA-256; this one is added.
    """
    if "image" not in case.sha256:
        return None
    first = images.setdefault(case.sha256["image"], case)
    if first.role == case.role:
        return None
    return (
        "image",
        f"the image is a copy of '{first.name}', which is {first.role}, and this case is "
        f"{case.role}; give both the same 'patient' in case.json",
    )


def _missing_roles(left: Sequence[ScannedCase], split: Split | None) -> list[Finding]:
    advice = (
        "name one in a split file (--split) or raise data.validation_fraction and "
        "data.test_fraction"
        if split is None
        else f"change '{split.file}' so that one is left for it"
    )
    missing = [role for role in ROLES if role not in {case.role for case in left}]
    return [
        Finding("", "", f"no usable {role} case among {len(left)}: {advice}") for role in missing
    ]


def _spacings_not_trained_on(cases: Sequence[ScannedCase], settings: Settings) -> list[Finding]:
    """Warn of each validation and test case whose spacing is far from the training cases'."""
    known = [(case, case.spacing_mm) for case in cases if case.spacing_mm is not None]
    trained = SpacingRange.of([spacing for case, spacing in known if case.role == "training"])
    return [
        Finding(case.name, Path(case.files[remark.file]).name, remark.text)
        for case, spacing in known
        if case.role in ("validation", "test")
        for remark in judge_spacing(spacing, trained, settings.plausibility)
    ]


def _few_validation_patients(
    usable: Sequence[ScannedCase], split: Split | None, settings: Settings
) -> list[Finding]:
    """Warn where the rule on the patient has left few that validate; none at all is an error."""
    patients = {case.patient for case in usable if case.role == "validation"}
    wanted = settings.plausibility.validation_patients
    if split is not None or not 0 < len(patients) < wanted:
        return []
    text = (
        f"by the rule on the patient {len(patients)} "
        f"{'patient validates' if len(patients) == 1 else 'patients validate'}, fewer than "
        f"plausibility.validation_patients ({wanted}), and seeds are ranked by them alone; name "
        f"{wanted} or more in a split file (--split), or raise data.validation_fraction "
        f"({settings.data.validation_fraction:g})"
    )
    return [Finding("", "", text)]


def _record(case: ScannedCase) -> CaseRecord:
    assert case.role is not None
    assert case.shape is not None
    assert case.spacing_mm is not None
    return CaseRecord(
        name=case.name,
        patient=case.patient,
        role=case.role,
        key=case.key,
        raters=case.raters,
        files=case.files,
        shape=case.shape,
        spacing_mm=case.spacing_mm,
        synthetic=case.synthetic,
        sha256=case.sha256,
    )

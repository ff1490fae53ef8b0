"""Whether one case can be used: everything that is wrong with its files, not only the first."""

from dataclasses import replace
from pathlib import Path

from liverseg.core.data.measurements import Measurements, measure, volume_ml
from liverseg.core.data.plausibility import judge, judge_slice_axis
from liverseg.errors import CaseError, NotFound
from liverseg.settings import Settings
from liverseg.steps.data.case_files import (
    case_key,
    copies_of_the_image,
    decode_files,
    load_files,
)
from liverseg.steps.data.case_folder import ScannedCase, find_case
from liverseg.steps.data.cases import CaseManifest, case_prefix
from liverseg.steps.data.preparation import prepare, save
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore


def check_case(
    data: Path, name: str, store: ObjectStore, settings: Settings, *, keep: bool = False
) -> ScannedCase:
    """Read a case's files, each once, and prepare it in memory: what cannot be prepared is refused.

    The same bytes in the store, prepared before, can be read and are not decoded again; whether
    they are plausible is judged anew by what was measured then.

    Args:
        data: The folder of all cases.
        name: The case's.
        store: Where the prepared case may be.
        settings: `preparation`, the labels of `data` and `plausibility` decide what a usable case
            is.
        keep: Write the prepared case to the store, unless something is wrong with it. If not, the
            raters' masks are not resampled.

    Returns:
        The case with all that was learned.
    """
    case = find_case(data, name)
    stored, unreadable = load_files({file: data / path for file, path in case.files.items()})
    sha256 = {name: file.sha256 for name, file in stored.items()}
    problems = [*case.problems, *unreadable]
    key = "" if unreadable else case_key(sha256, settings)
    copies = copies_of_the_image(stored)
    problems += copies.values()
    case = replace(case, sha256=sha256, key=key, problems=tuple(problems))
    if not problems and (prepared := _prepared_before(case, store, settings)):
        return prepared
    usable = {name: file for name, file in stored.items() if name not in copies}
    volumes, unlabelled, undecodable = decode_files(usable, settings)
    problems += undecodable
    raters = {name: volumes[name] for name in case.raters if name in volumes}
    ready = None
    if {"image", "liver"} <= volumes.keys() and "liver" not in unlabelled:
        try:
            ready = prepare(volumes["image"], volumes["liver"], raters if keep else {}, settings)
        except CaseError as error:
            blamed = "image" if volumes["liver"].voxels.any() else "liver"
            problems.append((stored[blamed].path.name, str(error)))
    geometry = volumes["image"].geometry if "image" in volumes else None
    measured = measure(volumes.get("image"), volumes.get("liver"), raters, unlabelled)
    judged = _judged(
        replace(
            case,
            problems=tuple(problems),
            shape=geometry.shape if geometry else None,
            spacing_mm=geometry.spacing_mm if geometry else None,
            lesion_ml={name: volume_ml(mask) for name, mask in raters.items()},
        ),
        measured,
        settings,
    )
    if keep and ready is not None and not judged.problems:
        save(store, key, ready, measured)
    return judged


def _prepared_before(
    case: ScannedCase, store: ObjectStore, settings: Settings
) -> ScannedCase | None:
    try:
        prepared = bundle.manifest(store, case_prefix(case.key), CaseManifest)
    except NotFound:
        return None
    if prepared.measured is None:
        return None
    recorded = replace(
        case,
        shape=prepared.shape,
        spacing_mm=prepared.spacing_mm,
        lesion_ml=prepared.lesion_ml,
        prepared=True,
    )
    return _judged(recorded, prepared.measured, settings)


def _judged(case: ScannedCase, measured: Measurements, settings: Settings) -> ScannedCase:
    """Return a case with what its measurements say against it."""
    remarks = judge(measured, settings.plausibility, settings.data.labels)
    if case.spacing_mm is not None:
        remarks += judge_slice_axis(case.spacing_mm, settings.preparation.slice_axis)
    errors, warnings = (
        tuple((Path(case.files[r.file]).name, r.text) for r in remarks if r.severity == severity)
        for severity in ("error", "warning")
    )
    return replace(case, problems=(*case.problems, *errors), warnings=(*case.warnings, *warnings))

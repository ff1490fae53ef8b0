"""Whether one case can be used: everything that is wrong with its files, not only the first."""

from dataclasses import replace
from pathlib import Path

from liverseg.errors import CaseError, NotFound
from liverseg.settings import Settings
from liverseg.steps.data.case_files import case_key, decode_files, load_files
from liverseg.steps.data.case_folder import ScannedCase, find_case
from liverseg.steps.data.cases import CaseManifest, case_prefix
from liverseg.steps.data.preparation import prepare, save, volume_ml
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore


def check_case(
    data: Path, name: str, store: ObjectStore, settings: Settings, *, keep: bool = False
) -> ScannedCase:
    """Read a case's files, each once, and prepare it in memory: what cannot be prepared is refused.

    The same bytes in the store, prepared before, are known to be good and are not decoded again.

    Args:
        data: The folder of all cases.
        name: The case's.
        store: Where the prepared case may be.
        settings: `preparation` decides what a usable case is.
        keep: Write the prepared case to the store, unless something is wrong with it. If not, the
            raters' masks are not resampled.

    Returns:
        The case with all that was learned.
    """
    case = find_case(data, name)
    stored, unreadable = load_files({file: data / path for file, path in case.files.items()})
    sha256 = {name: file.sha256 for name, file in stored.items()}
    problems = [*case.problems, *unreadable]
    key = "" if unreadable else case_key(sha256, settings.preparation)
    case = replace(case, sha256=sha256, key=key, problems=tuple(problems))
    if not problems and (prepared := _prepared_before(case, store)):
        return prepared
    volumes, undecodable = decode_files(stored)
    problems += undecodable
    raters = {name: volumes[name] for name in case.raters if name in volumes}
    ready = None
    if {"image", "liver"} <= volumes.keys():
        try:
            ready = prepare(volumes["image"], volumes["liver"], raters if keep else {}, settings)
        except CaseError as error:
            blamed = "image" if volumes["liver"].voxels.any() else "liver"
            problems.append((stored[blamed].path.name, str(error)))
    geometry = volumes["image"].geometry if "image" in volumes else None
    if keep and ready is not None and not problems:
        save(store, key, ready)
    return replace(
        case,
        problems=tuple(problems),
        shape=geometry.shape if geometry else None,
        spacing_mm=geometry.spacing_mm if geometry else None,
        lesion_ml={name: volume_ml(mask) for name, mask in raters.items()},
    )


def _prepared_before(case: ScannedCase, store: ObjectStore) -> ScannedCase | None:
    try:
        prepared = bundle.manifest(store, case_prefix(case.key), CaseManifest)
    except NotFound:
        return None
    return replace(
        case,
        shape=prepared.shape,
        spacing_mm=prepared.spacing_mm,
        lesion_ml=prepared.lesion_ml,
        prepared=True,
    )

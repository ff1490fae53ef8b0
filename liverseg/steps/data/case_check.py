"""Whether one case can be used: everything that is wrong with its files, not only the first."""

from dataclasses import replace

from liverseg.core.data.case import PreparedCase
from liverseg.errors import CaseError, NotFound
from liverseg.settings import Settings
from liverseg.steps.data.case_files import case_key, decode_files, load_files
from liverseg.steps.data.case_folder import ScannedCase
from liverseg.steps.data.cases import CaseManifest, case_prefix
from liverseg.steps.data.preparation import prepare, volume_ml
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore


def check_case(
    case: ScannedCase, store: ObjectStore, settings: Settings, *, keep: bool = False
) -> tuple[ScannedCase, PreparedCase | None]:
    """Read a case's files, each once, and prepare it in memory: what cannot be prepared is refused.

    The same bytes in the store, prepared before, are known to be good and are not decoded again.

    Args:
        case: What `find_cases` has returned.
        store: Where the prepared case may be.
        settings: `preparation` decides what a usable case is.
        keep: The prepared case is wanted; if not, the raters' masks are not resampled.

    Returns:
        The case with all that was learned, and the prepared case: None unless wanted, where the
        store has it, and where something is wrong.
    """
    stored, unreadable = load_files(case.files)
    sha256 = {name: file.sha256 for name, file in stored.items()}
    problems = [*case.problems, *unreadable]
    key = "" if unreadable else case_key(sha256, settings.preparation)
    case = replace(case, sha256=sha256, key=key, problems=tuple(problems))
    if not problems and (prepared := _prepared_before(case, store)):
        return prepared, None
    volumes, undecodable = decode_files(stored)
    problems += undecodable
    raters = {name: volumes[name] for name in case.raters if name in volumes}
    ready = None
    if {"image", "liver"} <= volumes.keys():
        try:
            ready = prepare(volumes["image"], volumes["liver"], raters if keep else {}, settings)
        except CaseError as error:
            blamed = "image" if volumes["liver"].voxels.any() else "liver"
            problems.append((case.files[blamed].name, str(error)))
    geometry = volumes["image"].geometry if "image" in volumes else None
    case = replace(
        case,
        problems=tuple(problems),
        shape=geometry.shape if geometry else None,
        spacing_mm=geometry.spacing_mm if geometry else None,
        lesion_ml={name: volume_ml(mask) for name, mask in raters.items()},
    )
    return case, ready if keep and not problems else None


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

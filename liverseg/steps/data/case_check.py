"""Whether one case can be used: everything that is wrong with its files, not only the first."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from liverseg.core.volumes.volume import Spacing, Volume
from liverseg.errors import CaseError
from liverseg.settings import Settings
from liverseg.steps.data.case_folder import CaseFolder, Problem, case_key, file_hash, read_volumes
from liverseg.steps.data.cases import CaseManifest, case_prefix
from liverseg.steps.data.preprocess import lesion_ml, normalised
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore


@dataclass(frozen=True)
class CheckedCase:
    """One case after its files were read."""

    folder: CaseFolder
    problems: tuple[Problem, ...]
    """(file, what is wrong with it)."""
    key: str = ""
    image_hash: str = ""
    shape: tuple[int, int, int] | None = None
    """Voxels (z, y, x); None if the image cannot be read."""
    spacing_mm: Spacing | None = None
    lesion_ml: dict[str, float] = field(default_factory=dict)
    """Contoured volume by rater."""
    prepared: bool = False
    """Already in the store."""


def check_case(folder: CaseFolder, store: ObjectStore, settings: Settings) -> CheckedCase:
    """Read a case, unless the same bytes have been prepared before and hence are known good."""
    try:
        key = case_key(folder.files, settings.preparation)
        image_hash = file_hash(folder.files["image"]) if "image" in folder.files else ""
    except CaseError as error:
        return CheckedCase(folder, (*folder.problems, ("", str(error))))
    prefix = case_prefix(key)
    if not folder.problems and bundle.exists(store, prefix):
        known = bundle.manifest(store, prefix, CaseManifest)
        return CheckedCase(
            folder, (), key, image_hash, known.shape, known.spacing_mm, known.lesion_ml, True
        )
    volumes, problems = read_volumes(folder.files)
    problems += _grey_values(volumes, folder, settings)
    geometry = volumes["image"].geometry if "image" in volumes else None
    return CheckedCase(
        folder,
        (*folder.problems, *problems),
        key,
        image_hash,
        geometry.shape if geometry else None,
        geometry.spacing_mm if geometry else None,
        lesion_ml(volumes),
    )


def _grey_values(
    volumes: Mapping[str, Volume], folder: CaseFolder, settings: Settings
) -> list[Problem]:
    """Normalise as `preprocess` will, to find an empty liver or a constant image now."""
    if not {"image", "liver"} <= volumes.keys():
        return []
    liver = {"liver": volumes["liver"]}
    try:
        normalised(volumes["image"], liver, settings.preparation)
    except CaseError as error:
        blamed = "image" if volumes["liver"].voxels.any() else "liver"
        return [(folder.files[blamed].name, str(error))]
    return []

"""Bring every case to the network's grid, once: a case is kept under the hash of its files.

A second run on the same data prepares nothing; one added case prepares one case.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from liverseg.core.data.case import PreparedCase, encode
from liverseg.core.data.dataset import CaseRecord, Dataset
from liverseg.core.volumes.preprocessing import dilate_in_plane, normalise
from liverseg.core.volumes.volume import FloatArray, Mask, Spacing, Volume
from liverseg.errors import CaseError, SettingsError
from liverseg.imaging.resampling import to_network_grid
from liverseg.settings import PreparationSettings, Settings
from liverseg.steps.data.case_folder import case_key, read_volumes
from liverseg.steps.data.cases import CASE_FILE, case_prefix
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore

Progress = Callable[[str, int, int], None]


@dataclass
class PreprocessResult:
    """Names of the cases of one shard."""

    done: list[str] = field(default_factory=list)
    """Prepared now."""
    reused: list[str] = field(default_factory=list)
    """Found prepared in the store."""


def run(
    data: Path,
    store: ObjectStore,
    dataset: Dataset,
    settings: Settings,
    shard: int = 0,
    shards: int = 1,
    progress: Progress = lambda _what, _done, _total: None,
) -> PreprocessResult:
    """Prepare the cases of one shard: those whose place by name, modulo `shards`, is `shard`.

    Raises:
        SettingsError: `shard` is not in 0 .. shards - 1.
        CaseError: A file is gone, has changed since the scan, or cannot be used.
    """
    if not 0 <= shard < shards:
        raise SettingsError(f"shard ({shard}) must be in 0 .. shards - 1 ({shards - 1})")
    records = _records(dataset, shard, shards)
    result = PreprocessResult()
    for number, record in enumerate(records):
        progress(f"prepare {record.name}", number, len(records))
        if bundle.exists(store, case_prefix(record.key)):
            result.reused.append(record.name)
        else:
            _prepare_files(data, store, record, settings)
            result.done.append(record.name)
    progress("prepare", len(records), len(records))
    return result


def missing(store: ObjectStore, dataset: Dataset, shard: int, shards: int) -> list[str]:
    """Return the names of a shard's cases that are not prepared yet."""
    return [
        record.name
        for record in _records(dataset, shard, shards)
        if not bundle.exists(store, case_prefix(record.key))
    ]


def prepare(
    image: Volume, liver: Volume, raters: Mapping[str, Volume], settings: Settings
) -> PreparedCase:
    """Return a case on the network's grid (docs/method.md section 3).

    All volumes share the image's grid. Raises CaseError if the liver is empty or the image
    constant inside it.
    """
    preparation = settings.preparation
    grey, masks, spacing = normalised(image, {"liver": liver, **raters}, preparation)
    inside = masks.pop("liver")
    return PreparedCase(
        image=grey,
        liver=inside,
        loss_mask=dilate_in_plane(inside, spacing, preparation.loss_dilation_mm),
        raters=masks,
        spacing_mm=spacing,
        original_liver=liver.voxels,
        original_raters={name: volume.voxels for name, volume in raters.items()},
        original_geometry=image.geometry,
    )


def normalised(
    image: Volume, masks: Mapping[str, Volume], preparation: PreparationSettings
) -> tuple[FloatArray, dict[str, Mask], Spacing]:
    """Return grey values, masks and spacing on the network's grid; `masks` has "liver".

    The percentiles are those of the resampled image inside the resampled liver. Raises CaseError.
    """
    if not masks["liver"].voxels.any():
        raise CaseError("the liver mask is empty")
    grey, resampled, spacing = to_network_grid(image, masks, preparation)
    lower, upper = preparation.lower_percentile, preparation.upper_percentile
    return normalise(grey, resampled["liver"], lower, upper), resampled, spacing


def lesion_ml(volumes: Mapping[str, Volume]) -> dict[str, float]:
    """Return the volume in ml that each rater has contoured."""
    return {
        name: float(v.voxels.sum()) * v.spacing_mm[0] * v.spacing_mm[1] * v.spacing_mm[2] / 1000
        for name, v in volumes.items()
        if name not in ("image", "liver")
    }


def _records(dataset: Dataset, shard: int, shards: int) -> list[CaseRecord]:
    return sorted(dataset.cases, key=lambda r: r.name)[shard::shards]


def _prepare_files(data: Path, store: ObjectStore, record: CaseRecord, settings: Settings) -> None:
    files = {name: data / path for name, path in record.files.items()}
    gone = next((path for path in files.values() if not path.is_file()), None)
    if gone is not None:
        raise CaseError(f"case '{record.name}': '{gone}' is gone since the scan; scan again")
    if case_key(files, settings.preparation) != record.key:
        raise CaseError(f"case '{record.name}': files or settings differ from the scan; scan again")
    volumes, problems = read_volumes(files)
    if problems:
        raise CaseError(f"case '{record.name}': {problems[0][1]}")
    extra: dict[str, Any] = {
        "shape": volumes["image"].geometry.shape,
        "spacing_mm": volumes["image"].spacing_mm,
        "lesion_ml": lesion_ml(volumes),
    }
    image, liver = volumes.pop("image"), volumes.pop("liver")
    try:
        case = prepare(image, liver, volumes, settings)
    except CaseError as error:
        raise CaseError(f"case '{record.name}': {error}") from error
    bundle.commit(store, case_prefix(record.key), {CASE_FILE: encode(case)}, extra)

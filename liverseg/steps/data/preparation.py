"""A case's volumes on the network's grid (docs/method.md section 3), and their way to the store."""

from collections.abc import Mapping
from dataclasses import asdict

from liverseg.core.data.case import PreparedCase, encode
from liverseg.core.data.measurements import Measurements, volume_ml
from liverseg.core.volumes.preprocessing import dilate_in_plane, normalise
from liverseg.core.volumes.volume import Volume
from liverseg.errors import CaseError
from liverseg.imaging.resampling import to_network_grid
from liverseg.settings import Settings
from liverseg.steps.data.cases import CASE_FILE, case_prefix
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore


def prepare(
    image: Volume, liver: Volume, raters: Mapping[str, Volume], settings: Settings
) -> PreparedCase:
    """Return a case on the network's grid.

    All volumes share the image's grid. The percentiles are those of the resampled image inside the
    resampled liver. Raises CaseError if the liver is empty or the image constant inside it.
    """
    preparation = settings.preparation
    if not liver.voxels.any():
        raise CaseError("the liver mask is empty")
    grey, masks, spacing = to_network_grid(image, {"liver": liver, **raters}, preparation)
    inside = masks.pop("liver")
    lower, upper = preparation.lower_percentile, preparation.upper_percentile
    return PreparedCase(
        image=normalise(grey, inside, lower, upper),
        liver=inside,
        loss_mask=dilate_in_plane(inside, spacing, preparation.loss_dilation_mm),
        raters=masks,
        spacing_mm=spacing,
        original_liver=liver.voxels,
        original_raters={name: volume.voxels for name, volume in raters.items()},
        original_geometry=image.geometry,
    )


def save(store: ObjectStore, key: str, case: PreparedCase, measured: Measurements) -> None:
    """Write a prepared case under its key, with what a scan shows of it and judges."""
    geometry = case.original_geometry
    described = {
        "shape": geometry.shape,
        "spacing_mm": geometry.spacing_mm,
        "lesion_ml": {
            name: volume_ml(Volume(mask, geometry)) for name, mask in case.original_raters.items()
        },
        "measured": asdict(measured),
    }
    bundle.commit(store, case_prefix(key), {CASE_FILE: encode(case)}, described)

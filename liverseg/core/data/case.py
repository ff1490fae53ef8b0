"""One case, prepared for the network, and the bytes it is stored as."""

import io
import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.lib.npyio import NpzFile

from liverseg.core.volumes.volume import FloatArray, Geometry, Mask, Spacing


@dataclass(frozen=True)
class PreparedCase:
    """A case on the network's grid, with what is needed to go back to its own grid.

    Arrays are (z, y, x). `image`, `liver`, `loss_mask` and `raters` share the network's grid
    (in-plane resampled, slices untouched); the `original_*` ones lie on the grid of the files.
    """

    image: FloatArray
    """Grey values, 2nd and 98th percentile inside the liver at 0 and 1, not clipped."""
    liver: Mask
    loss_mask: Mask
    """The liver dilated in-plane, where the training loss is computed."""
    raters: dict[str, Mask]
    """Lesion masks by rater, such as {"R1": ...}; an absent rater has no entry."""
    spacing_mm: Spacing
    original_liver: Mask
    original_raters: dict[str, Mask]
    original_geometry: Geometry


@dataclass(frozen=True)
class LabelledCase:
    """A case on the network's grid with the lesions of one rater; arrays are (z, y, x)."""

    image: FloatArray
    liver: Mask
    lesion: Mask


@dataclass(frozen=True)
class TrainingCase(LabelledCase):
    """A case that a network learns from."""

    loss_mask: Mask


def encode(case: PreparedCase) -> bytes:
    """Return the case as a compressed npz; the same case gives the same bytes."""
    arrays: dict[str, np.ndarray] = {
        "image": case.image,
        "liver": case.liver,
        "loss_mask": case.loss_mask,
        "original_liver": case.original_liver,
    }
    arrays |= {f"rater/{name}": mask for name, mask in sorted(case.raters.items())}
    arrays |= {f"original_rater/{name}": m for name, m in sorted(case.original_raters.items())}
    meta = {"spacing_mm": case.spacing_mm, "original_geometry": asdict(case.original_geometry)}
    arrays["meta"] = np.frombuffer(json.dumps(meta, sort_keys=True).encode(), dtype=np.uint8)
    target = io.BytesIO()
    np.savez_compressed(target, allow_pickle=False, **arrays)
    return target.getvalue()


def decode(data: bytes) -> PreparedCase:
    """Return the case that `encode` wrote; never unpickles."""
    with _arrays(data) as arrays:
        meta = json.loads(arrays["meta"].tobytes())
        z, y, x = meta["spacing_mm"]

        def masks(prefix: str) -> dict[str, Mask]:
            return {n.removeprefix(prefix): arrays[n] for n in arrays.files if n.startswith(prefix)}

        return PreparedCase(
            image=arrays["image"],
            liver=arrays["liver"],
            loss_mask=arrays["loss_mask"],
            raters=masks("rater/"),
            spacing_mm=(z, y, x),
            original_liver=arrays["original_liver"],
            original_raters=masks("original_rater/"),
            original_geometry=Geometry.from_mapping(meta["original_geometry"]),
        )


def decode_labelled(data: bytes, rater: str) -> LabelledCase:
    """As `decode`, but only what one rater labelled is decompressed."""
    with _arrays(data) as arrays:
        return LabelledCase(arrays["image"], arrays["liver"], arrays[f"rater/{rater}"])


def decode_training(data: bytes, rater: str) -> TrainingCase:
    """As `decode`, but only what a training with one rater uses is decompressed."""
    with _arrays(data) as arrays:
        return TrainingCase(
            arrays["image"], arrays["liver"], arrays[f"rater/{rater}"], arrays["loss_mask"]
        )


def _arrays(data: bytes) -> NpzFile:
    arrays: NpzFile = np.load(io.BytesIO(data), allow_pickle=False)
    return arrays

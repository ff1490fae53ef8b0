"""Reading and writing volumes, so that everything else sees one orientation.

Source: docs/method.md section 2.

Any orientation is brought to the nearest LPS on reading, by flips and swaps of axes only: an
oblique acquisition stays as oblique as it is. Writing goes back to the orientation of the file.
Coronal or sagittal slices (`preparation.slice_axis`) are brought to the first axis instead.
"""

import math
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from liverseg.core.volumes.volume import Geometry, Volume
from liverseg.errors import CaseError, SettingsError, StoreError
from liverseg.imaging.integrity import check_complete, unpack
from liverseg.imaging.stored_file import StoredFile, load
from liverseg.settings import SliceAxis

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Formats that are read."""
WRITABLE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Formats that are written: one file each, which a rename moves into place."""
ORIENTATIONS: dict[SliceAxis, str] = {"auto": "LPS", "z": "LPS", "y": "LIP", "x": "PIR"}
"""What an array's x, y and z axis are nearest to, by the axis of the patient that slices follow:
those of axial, coronal and sagittal series, all right-handed."""

# Formats round differently (float32, quaternions, text). Over 256 voxels these differences move
# a voxel by less than half a millimetre.
SPACING_TOLERANCE_MM = 1e-3
ORIGIN_TOLERANCE_MM = 5e-2
DIRECTION_TOLERANCE = 1e-3

# ITK repeats to stderr what it also raises, and what `check_complete` says with the file's name.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


def read(path: Path, slice_axis: SliceAxis = "auto") -> Volume:
    """Return the grey values of a file: `decode` of its bytes."""
    return decode(load(path), slice_axis)


def decode(file: StoredFile, slice_axis: SliceAxis = "auto") -> Volume:
    """Return grey values (float32), nearest to LPS; with slices along y or x, to LIP or PIR.

    Raises CaseError, naming the file, if it cannot be read, is truncated, is not a volume with
    one value a voxel, or holds NaN or infinite voxels.
    """
    stored, not_finite = _decode(file)
    image = sitk.Cast(stored, sitk.sitkFloat32)
    voxels = sitk.GetArrayViewFromImage(image)
    not_finite = not_finite or int(voxels.size - np.isfinite(voxels).sum())
    if not_finite:
        raise CaseError(f"'{file.path.name}' has {not_finite} voxels that are NaN or infinite")
    return _oriented(image, ORIENTATIONS[slice_axis])


def voxels_of(path: Path) -> int:
    """Return how many voxels the file's header announces, 0 where it cannot be read."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return 0
    return math.prod(reader.GetSize())


def write(path: Path, volume: Volume) -> None:
    """Write in the geometry's original orientation; the suffix chooses the format.

    The file appears whole or not at all. Masks are stored as uint8.

    Raises:
        SettingsError: The suffix is unknown.
        StoreError: The file cannot be written (rights, disk).
    """
    suffix = next((s for s in WRITABLE_SUFFIXES if path.name.endswith(s)), None)
    if suffix is None:
        known = ", ".join(WRITABLE_SUFFIXES)
        raise SettingsError(f"cannot write '{path}': its suffix must be one of {known}")
    part = path.with_name(f".{os.getpid()}.{path.name.removesuffix(suffix)}.part{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(_image(volume), str(part), useCompression=True)
        check_complete(load(part))  # ITK says nothing when the disk fills up under a NIfTI file
        part.replace(path)
    except (OSError, RuntimeError, CaseError) as error:
        raise StoreError(f"cannot write '{path}': {_reason(error)}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def nifti_bytes(volume: Volume) -> bytes:
    """Return what `write` would put into a .nii.gz file; the same volume gives the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii.gz"
        write(path, volume)
        return path.read_bytes()


def check_same_grid(
    reference: Volume, other: Volume, name: str, expected_of: str = "the image"
) -> None:
    """Raise CaseError unless both volumes have the same voxel grid within tolerance.

    `name` is the other's file, `expected_of` the reference in words; the message gives the field
    and both values.
    """
    ours, theirs = reference.geometry, other.geometry
    if ours.shape != theirs.shape:
        raise CaseError(
            f"'{name}' has {theirs.shape} voxels (z, y, x), {expected_of} has {ours.shape}"
        )
    rules = (
        ("spacing (z, y, x) mm", ours.spacing_mm, theirs.spacing_mm, SPACING_TOLERANCE_MM),
        ("origin (x, y, z) mm", ours.origin_mm, theirs.origin_mm, ORIGIN_TOLERANCE_MM),
        ("direction", ours.direction, theirs.direction, DIRECTION_TOLERANCE),
    )
    for field, expected, actual, tolerance in rules:
        if not np.allclose(expected, actual, rtol=0, atol=tolerance):
            raise CaseError(
                f"'{name}' has {field} {_rounded(actual)}, {expected_of} has {_rounded(expected)}"
            )


def _decode(file: StoredFile) -> tuple[sitk.Image, int]:
    """Return the image as it is in the file, and how many of its voxels ITK made numbers.

    It is checked to be a volume of single values. ITK reads files only, so the bytes go through a
    temporary one.
    """
    name = file.path.name
    try:
        with tempfile.TemporaryDirectory() as folder:
            path, not_finite = unpack(file, Path(folder))
            image = sitk.ReadImage(str(path))
    except OSError as error:
        raise StoreError(
            f"cannot unpack '{name}' into a temporary folder: {error}; set TMPDIR to a folder that "
            "can be written"
        ) from error
    except RuntimeError as error:
        raise CaseError(f"'{name}' cannot be read: {_reason(error)}") from error
    size = image.GetSize()
    if len(size) != 3 or min(size) < 2:
        raise CaseError(f"'{name}' is not a volume: it has {_times(size)} voxels (x, y, ...)")
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in image.GetPixelIDTypeAsString():
        raise CaseError(
            f"'{name}' has {image.GetNumberOfComponentsPerPixel()} values a voxel "
            f"({image.GetPixelIDTypeAsString()}); one is needed"
        )
    return image, not_finite


def _oriented(image: sitk.Image, code: str) -> Volume:
    """Flip and swap axes to what is nearest to a code; the geometry has the original one."""
    orientation = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(
        image.GetDirection()
    )
    image = sitk.DICOMOrient(image, code)
    x, y, z = image.GetSize()
    sx, sy, sz = image.GetSpacing()
    geometry = Geometry(
        (z, y, x), (sz, sy, sx), image.GetOrigin(), image.GetDirection(), orientation
    )
    return Volume(sitk.GetArrayFromImage(image), geometry)


def _image(volume: Volume) -> sitk.Image:
    voxels: npt.NDArray[np.generic] = volume.voxels
    image = sitk.GetImageFromArray(voxels.astype(np.uint8) if voxels.dtype == bool else voxels)
    image.SetSpacing(volume.geometry.spacing_mm[::-1])
    image.SetOrigin(volume.geometry.origin_mm)
    image.SetDirection(volume.geometry.direction)
    oriented: sitk.Image = sitk.DICOMOrient(image, volume.geometry.orientation)
    return oriented


def _reason(error: Exception) -> str:
    """Return the last line that says something; ITK's messages are a page of file names."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _times(size: Iterable[int]) -> str:
    return " x ".join(str(extent) for extent in size)


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(v), 4) for v in values)

"""Reading and writing volumes, so that everything else sees one orientation.

Source: docs/method.md section 2.

Any orientation is brought to the nearest LPS on reading, by flips and swaps of axes only: an
oblique acquisition stays as oblique as it is. Writing undoes exactly these flips and swaps: axes
between two directions of the patient, at 45 degrees, have no orientation to go back to.
Coronal or sagittal slices (`preparation.slice_axis`) are brought to the first axis instead.
"""

import gzip
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from liverseg.core.volumes.volume import Geometry, Volume
from liverseg.errors import CaseError, SettingsError, StoreError
from liverseg.imaging.axes import CORNER_TOLERANCE_MM, farthest_corner
from liverseg.imaging.integrity import decoded_voxels, header_of, unpacked
from liverseg.imaging.nifti import with_sform
from liverseg.imaging.stored_file import StoredFile, load, load_beginning
from liverseg.imaging.suffixes import NIFTI_SUFFIXES, WRITABLE_SUFFIXES, suffix_of
from liverseg.settings import SliceAxis

ORIENTATIONS: dict[SliceAxis, str] = {"auto": "LPS", "z": "LPS", "y": "LIP", "x": "PIR"}
"""What an array's x, y and z axis are nearest to, by the axis of the patient that slices follow:
those of axial, coronal and sagittal series, all right-handed."""

P = ParamSpec("P")
R = TypeVar("R")

# Formats round differently (float32, quaternions, text). Over 256 voxels these differences move
# a voxel by less than half a millimetre.
SPACING_TOLERANCE_MM = 1e-3
ORIGIN_TOLERANCE_MM = 5e-2
DIRECTION_TOLERANCE = 1e-3

# ITK repeats to stderr what it also raises.
sitk.ProcessObject.SetGlobalWarningDisplay(False)


def read(path: Path, slice_axis: SliceAxis = "auto") -> Volume:
    """Return the grey values of a file: `decode` of its bytes."""
    return decode(load(path), slice_axis)


def named_if_too_large(
    read: Callable[Concatenate[StoredFile, P], R],
) -> Callable[Concatenate[StoredFile, P], R]:
    """Let a function raise CaseError, naming its file, where that does not fit into memory."""

    @wraps(read)
    def reading(file: StoredFile, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(file, *args, **kwargs)
        except MemoryError as error:
            raise CaseError(f"'{file.path.name}' does not fit into memory: {error}") from error
        except RuntimeError as error:  # of ITK, which says so where memory is the reason
            raise CaseError(f"'{file.path.name}' cannot be read: {_reason(error)}") from error

    return reading


@named_if_too_large
def decode(file: StoredFile, slice_axis: SliceAxis = "auto") -> Volume:
    """Return grey values (float32), nearest to LPS; with slices along y or x, to LIP or PIR.

    Raises CaseError, naming the file, if it cannot be read, is truncated or padded, contradicts
    itself, is sheared, is not a volume with one value a voxel, or holds NaN or infinite voxels.
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
    try:
        return header_of(load_beginning(path)).voxels
    except CaseError:
        return 0


def check_writable(path: Path) -> str:
    """Return the suffix that chooses a format to write.

    Raises SettingsError if it chooses none, or ITK could not open a file of that name.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        name = str(path).encode(errors="replace").decode()
        raise SettingsError(f"cannot write '{name}': its name is not UTF-8") from error
    suffix = suffix_of(path)
    if suffix not in WRITABLE_SUFFIXES:
        known = ", ".join(WRITABLE_SUFFIXES)
        raise SettingsError(f"cannot write '{path}': its suffix must be one of {known}")
    return suffix


def nifti_bytes(volume: Volume) -> bytes:
    """Return a .nii.gz file, see `encoded`; the same volume gives the same bytes."""
    return encoded(Path("volume.nii.gz"), volume)


def encoded(path: Path, volume: Volume) -> bytes:
    """Return a file with the axes of the one that was read; the name's suffix chooses the format.

    It has been read back. Masks are stored as uint8. SimpleITK writes files only: into the
    temporary folder or, where it has no room for it, into one beside `path` or where its folder is
    to be, where as much room is needed anyway. The file itself is written by storage/files.py,
    whole or not at all.

    Raises:
        SettingsError: The suffix is unknown, or the format cannot hold the geometry.
        StoreError: No folder takes the file (rights, disk), or it is not what was written.
    """
    suffix = check_writable(path)
    image = _image(volume)
    for beside in (False, True):
        try:
            parent = _nearest_folder(path) if beside else None
            with tempfile.TemporaryDirectory(dir=parent) as folder:
                part = Path(folder) / f"volume{suffix}"
                sitk.WriteImage(image, str(part), useCompression=True)
                if suffix in NIFTI_SUFFIXES:
                    _write_exact_sform(part, image)
                return _checked(replace(load(part), path=path), image)
        except (OSError, RuntimeError, CaseError, StoreError) as error:
            reason = error
    raise StoreError(f"cannot write '{path}': {_reason(reason)}") from reason


def check_same_grid(
    reference: Volume, other: Volume, name: str, expected_of: str = "the image"
) -> Volume:
    """Return the other volume with its axes in the reference's order.

    The order differs where both are turned by about 45 degrees, so that the axis nearest to the
    patient's left is not the same for both. `name` is the other's file, `expected_of` the
    reference in words; the message gives the field and both values.

    Raises CaseError unless both volumes have the same voxel grid within tolerance.
    """
    other = _in_order_of(reference.geometry, other)
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
    return other


def _in_order_of(reference: Geometry, other: Volume) -> Volume:
    """Return a volume with its axes swapped and flipped to be nearest to the reference's."""
    geometry = other.geometry
    axes = np.reshape(geometry.direction, (3, 3))
    cosines = np.reshape(reference.direction, (3, 3)).T @ axes
    order = np.abs(cosines).argmax(axis=1)
    signs = np.where(cosines[range(3), order] < 0, -1, 1)
    if len(set(order.tolist())) < 3 or ((order == range(3)).all() and (signs > 0).all()):
        return other
    voxels = other.voxels.transpose(2 - order[::-1])  # (z, y, x) counts from the other end
    voxels = np.ascontiguousarray(voxels[tuple(slice(None, None, s) for s in signs[::-1].tolist())])
    depth, height, width = voxels.shape
    spacing = np.array(geometry.spacing_mm[::-1])[order]
    steps = axes[:, order] * spacing
    moved = np.where(signs < 0, (width - 1, height - 1, depth - 1), 0)
    x, y, z = (np.array(geometry.origin_mm) + steps @ moved).tolist()
    sz, sy, sx = spacing[::-1].tolist()
    direction = tuple((axes[:, order] * signs).ravel().tolist())
    # Its own axes, flipped as they were, in the order of the new ones.
    now = np.argsort(order) + 1
    a, b, c = (int(np.sign(f) * signs[now[abs(f) - 1] - 1] * now[abs(f) - 1])
               for f in geometry.file_axes)  # fmt: skip
    return Volume(
        voxels, Geometry((depth, height, width), (sz, sy, sx), (x, y, z), direction, (a, b, c))
    )


@named_if_too_large
def _decode(file: StoredFile) -> tuple[sitk.Image, int]:
    """Return the image as it is in the file, and how many of its voxels are NaN or infinite.

    ITK has no part in the reading: it takes the file beside the one that is named, makes up
    voxels that are missing, and straightens axes that are not.
    """
    header = header_of(file)
    array = decoded_voxels(file, header)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(header.spacing_mm)
    image.SetOrigin(header.origin_mm)
    image.SetDirection(header.direction)
    not_finite = array.size - np.isfinite(array).sum() if array.dtype.kind == "f" else 0
    return image, int(not_finite)


def _nearest_folder(path: Path) -> Path:
    """Return the folder of a path, or the one above it that is there."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def _write_exact_sform(part: Path, image: sitk.Image) -> None:
    """Replace the sform that ITK has written, which went through float32 more than once."""
    data = unpacked(load(part))
    changed = with_sform(data, image.GetSize(), _grid(image))
    if changed != data:
        gzipped = suffix_of(part) == ".nii.gz"
        part.write_bytes(gzip.compress(changed, 6, mtime=0) if gzipped else changed)


def _checked(file: StoredFile, image: sitk.Image) -> bytes:
    """Return a file's bytes; StoreError or SettingsError unless they hold the image, each voxel."""
    back, _ = _decode(file)
    ours, theirs = (sitk.GetArrayViewFromImage(one) for one in (image, back))
    if ours.dtype != theirs.dtype or ours.tobytes() != theirs.tobytes():
        raise StoreError("read back, its voxels differ; is the disk sound?")
    _, distance = farthest_corner(image.GetSize(), _grid(image), _grid(back))
    if not distance <= CORNER_TOLERANCE_MM:
        raise SettingsError(
            f"cannot write '{file.path}': its format moves a corner of the grid by "
            f"{distance:.3g} mm; choose another suffix, such as .nrrd"
        )
    return file.content


def _grid(image: sitk.Image) -> npt.NDArray[np.float64]:
    """Return the 3 x 4 matrix from voxels (x, y, z) to millimetres in LPS."""
    steps = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return np.column_stack([steps, image.GetOrigin()])


def _oriented(image: sitk.Image, code: str) -> Volume:
    """Flip and swap axes to what is nearest to a code; the geometry says which."""
    in_file = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    image = sitk.DICOMOrient(image, code)
    x, y, z = image.GetSize()
    sx, sy, sz = image.GetSpacing()
    geometry = Geometry(
        (z, y, x), (sz, sy, sx), image.GetOrigin(), image.GetDirection(), _file_axes(in_file, code)
    )
    return Volume(sitk.GetArrayFromImage(image), geometry)


def _file_axes(in_file: str, code: str) -> tuple[int, int, int]:
    """Return `Geometry.file_axes` of a file with one orientation code that was brought to another.

    Letters are compared, as ITK does, and no cosines: every code has the axes of any other.
    """
    opposite = code.translate(str.maketrans("LRPASI", "RLAPIS"))
    x, y, z = (code.find(c) + 1 or -opposite.index(c) - 1 for c in in_file)
    return x, y, z


def _image(volume: Volume) -> sitk.Image:
    voxels: npt.NDArray[np.generic] = volume.voxels
    image = sitk.GetImageFromArray(voxels.astype(np.uint8) if voxels.dtype == bool else voxels)
    image.SetSpacing(volume.geometry.spacing_mm[::-1])
    image.SetOrigin(volume.geometry.origin_mm)
    image.SetDirection(volume.geometry.direction)
    axes = volume.geometry.file_axes
    permuted = sitk.PermuteAxes(image, [abs(axis) - 1 for axis in axes])
    flipped: sitk.Image = sitk.Flip(permuted, [axis < 0 for axis in axes])
    return flipped


def _reason(error: Exception) -> str:
    """Return the last line that says something; ITK's messages are a page of file names."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(v), 4) for v in values)

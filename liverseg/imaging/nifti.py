"""The header of a NIfTI-1 or NIfTI-2 file (nifti.nimh.nih.gov).

Where it holds two grids, a qform and an sform, both must be the same; the sform is read, as
nibabel does, since the qform's quaternion is less precise.
"""

import struct
from typing import Literal

import numpy as np

from liverseg.errors import CaseError
from liverseg.imaging.axes import (
    CORNER_TOLERANCE_MM,
    Matrix,
    check_axes,
    check_same_corners,
    check_same_spacing,
    farthest_corner,
    lengths_mm,
)
from liverseg.imaging.header import Header, one_value, volume_size

_FIELDS = ("dim", "datatype", "pixdim", "offset", "slope", "inter", "units", "qform_code",
           "sform_code", "quaternion", "qoffset", "sform", "magic")  # fmt: skip
_NIFTI1 = np.dtype({
    "names": _FIELDS,
    "formats": ["8i2", "i2", "8f4", "f4", "f4", "f4", "u1", "i2", "i2", "3f4", "3f4", "(3,4)f4",
                "S4"],
    "offsets": [40, 70, 76, 108, 112, 116, 123, 252, 254, 256, 268, 280, 344],
    "itemsize": 348,
})  # fmt: skip
_NIFTI2 = np.dtype({
    "names": _FIELDS,
    "formats": ["8i8", "i2", "8f8", "i8", "f8", "f8", "i4", "i4", "i4", "3f8", "3f8", "(3,4)f8",
                "S8"],
    "offsets": [16, 12, 104, 168, 176, 184, 500, 344, 348, 352, 376, 400, 4],
    "itemsize": 540,
})  # fmt: skip
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4",
          1024: "i8", 1280: "u8"}  # fmt: skip
_SEVERAL_VALUES = {32: (2, "complex"), 1792: (2, "complex"), 2048: (2, "complex"),
                   128: (3, "RGB"), 2304: (4, "RGBA")}  # fmt: skip
_LAST_CODE = 5
_UNITS = {1: "metres", 3: "micrometres"}
_TO_LPS = np.diag([-1.0, -1.0, 1.0])
# The qform holds three of a quaternion's four numbers, as float32. Of a turn by nearly 180 degrees,
# which every LPS image has, the fourth is lost in their rounding: up to 0.05 degrees.
_QUATERNION_ROUNDING = 2e-7
_FLOAT32_ROUNDING = 1e-6


@np.errstate(all="ignore")  # numbers that are none are refused below
def header(name: str, data: bytes) -> Header:
    """Return what the (unpacked) beginning of a file says.

    Raises CaseError, naming the file, where it is no NIfTI file, contradicts itself, or holds no
    single volume of single values.
    """
    fields = _fields(name, data)
    dims, datatype = fields["dim"].tolist(), int(fields["datatype"])
    if not 1 <= dims[0] <= 7:
        raise CaseError(f"'{name}' is damaged: its header announces {dims[0]} dimensions")
    sizes = dims[1 : 1 + dims[0]]
    if sizes[3:4] == [1] and len(sizes) > 4 and sizes[4] > 1:
        one_value(name, sizes[4], "vector")
    size = volume_size(name, sizes)
    if datatype in _SEVERAL_VALUES:
        one_value(name, *_SEVERAL_VALUES[datatype])
    if datatype not in _TYPES:
        raise CaseError(f"'{name}' has voxels of NIfTI's type {datatype}, which is not read")
    order = fields.dtype["dim"].base.byteorder
    steps, origin, spacing = _grid(name, size, fields)
    slope, intercept = _scaling(name, fields)
    return Header(
        size=size,
        dtype=np.dtype(_TYPES[datatype]).newbyteorder(order),
        spacing_mm=tuple(spacing.tolist()),
        origin_mm=tuple(origin.tolist()),
        # Not of length 1 to the last bit: times the spacing this is exactly what the file says.
        direction=tuple((steps / spacing).ravel().tolist()),
        offset=_offset(name, fields),
        slope=slope,
        intercept=intercept,
    )


def with_sform(data: bytes, size: tuple[int, int, int], grid: Matrix) -> bytes:
    """Return an unpacked file with exactly this grid (3 x 4, to millimetres in LPS) as its sform.

    What ITK has written stays where it is the same but for rounding, and the grid has no exact
    float32 numbers to keep; one that was read from a NIfTI file has them. A qform that cannot hold
    the grid of these voxels (x, y, z) is switched off.
    """
    changed = bytearray(data)
    fields = np.frombuffer(changed, _layout("", data), 1)[0]  # a view: what is set is in `changed`
    sform = _TO_LPS @ grid
    exact = np.allclose(sform.astype(np.float32), sform, rtol=1e-12, atol=1e-10)
    rounding = _FLOAT32_ROUNDING * np.abs(sform[:, :3]).max()
    if not exact and np.allclose(fields["sform"], sform, rtol=_FLOAT32_ROUNDING, atol=rounding):
        return data
    fields["sform"], fields["sform_code"] = sform, max(fields["sform_code"], 1)
    if not _qform_holds_sform("", size, fields):
        fields["qform_code"] = 0
    return bytes(changed)


def _layout(name: str, data: bytes) -> np.dtype[np.void]:
    """Return the layout of the header's fields, by its length, which is its first number."""
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        for layout in (_NIFTI1, _NIFTI2):
            if data[:4] == struct.pack(order + "i", layout.itemsize):
                return layout.newbyteorder(order)
    if len(data) < 4:
        raise CaseError(f"'{name}' is truncated: it has no header; copy it again")
    raise CaseError(f"'{name}' is not a NIfTI file: it begins with {data[:16]!r}")


def _fields(name: str, data: bytes) -> np.void:
    layout = _layout(name, data)
    if len(data) < layout.itemsize:
        raise CaseError(
            f"'{name}' is truncated: {len(data)} bytes instead of a header of {layout.itemsize}"
        )
    fields: np.void = np.frombuffer(data, layout, 1)[0]
    magic = bytes(fields["magic"])[:3]
    if magic in (b"ni1", b"ni2"):
        raise CaseError(
            f"'{name}' is one half of a pair (.hdr/.img), a format that is not read; save it as "
            "one file"
        )
    if magic not in (b"n+1", b"n+2"):
        raise CaseError(f"'{name}' is not a NIfTI file: its magic is {magic!r} instead of b'n+1'")
    if bytes(fields["magic"])[4:] not in (b"", b"\r\n\x1a\n"):
        raise CaseError(
            f"'{name}' is damaged: its line ends were converted; copy it in binary mode"
        )
    if not all(0 <= fields[code] <= _LAST_CODE for code in ("qform_code", "sform_code")):
        raise CaseError(
            f"'{name}' is damaged: its qform_code is {fields['qform_code']}, its sform_code "
            f"{fields['sform_code']}; they go from 0 to {_LAST_CODE}"
        )
    return fields


def _offset(name: str, fields: np.void) -> int:
    offset, least = float(fields["offset"]), fields.dtype.itemsize + 4
    if not (offset >= least and offset.is_integer()):
        raise CaseError(
            f"'{name}' is damaged: its voxels begin at byte {offset:g} (vox_offset) instead of "
            f"{least} or later"
        )
    return int(offset)


def _scaling(name: str, fields: np.void) -> tuple[float, float]:
    """Return slope and intercept; a slope of 0 or NaN stands for none."""
    slope, intercept = float(fields["slope"]), float(fields["inter"])
    if np.isnan(slope) or slope == 0:
        # ITK adds the intercept then, nibabel does not.
        if slope == 0 and intercept != 0 and np.isfinite(intercept):
            raise CaseError(
                f"'{name}' contradicts itself: scl_slope is 0, which stands for no scaling, and "
                f"scl_inter is {intercept:g}; set both to 0, or the slope to 1"
            )
        return 1.0, 0.0
    if not np.isfinite(slope) or not np.isfinite(intercept):
        raise CaseError(f"'{name}' is damaged: scl_slope is {slope:g} and scl_inter {intercept:g}")
    return slope, intercept


def _grid(name: str, size: tuple[int, int, int], fields: np.void) -> tuple[Matrix, Matrix, Matrix]:
    """Return steps, origin and spacing in LPS and millimetres."""
    unit = int(fields["units"]) & 7
    if unit in _UNITS:
        raise CaseError(
            f"'{name}' gives its lengths in {_UNITS[unit]} (xyzt_units {unit}), which programs "
            "read differently; store them in millimetres (2)"
        )
    pixdim = fields["pixdim"][1:4].astype(np.float64)
    if not ((pixdim > 0) & (pixdim < 1e6)).all():  # true of no NaN
        raise CaseError(
            f"'{name}' is damaged: its spacing (pixdim) is {pixdim.tolist()} mm; it must be > 0"
        )
    has_qform, has_sform = fields["qform_code"] > 0, fields["sform_code"] > 0
    if not has_qform and not has_sform:
        raise CaseError(
            f"'{name}' does not say how the patient lies in it: qform_code and sform_code are 0, "
            "and programs guess differently; set one of them, such as with nibabel's set_sform"
        )
    chosen = fields["sform"].astype(np.float64) if has_sform else _qform(name, fields)
    grid = _TO_LPS @ chosen
    check_axes(name, grid[:, :3], grid[:, 3])
    lengths = lengths_mm(grid[:, :3])
    said_by = "pixdim", f"its {'sform' if has_sform else 'qform'}"
    check_same_spacing(name, size, said_by, (pixdim, lengths))
    if has_qform and has_sform and not _qform_holds_sform(name, size, fields):
        both = _qform(name, fields), chosen
        check_same_corners(name, size, ("its qform", "its sform"), both)
    rounded = np.abs(pixdim - lengths) <= _FLOAT32_ROUNDING * lengths
    return grid[:, :3], grid[:, 3], np.where(rounded, pixdim, lengths)


def _qform(name: str, fields: np.void) -> Matrix:
    """Return the qform (3 x 4) as float32 numbers, in RAS; nifti_quatern_to_mat44 of nifti_clib."""
    b, c, d = fields["quaternion"].astype(np.float64).tolist()
    square = b * b + c * c + d * d
    factor = float(fields["pixdim"][0])
    if not square <= 1 + 1e-6 or factor not in (-1, 0, 1):
        raise CaseError(
            f"'{name}' is damaged: its qform is no rotation (quaternion {b:g}, {c:g}, {d:g}; "
            f"pixdim[0] {factor:g} instead of 1 or -1)"
        )
    if 1 - square < 1e-7:
        length = np.sqrt(square)
        a, b, c, d = 0.0, b / length, c / length, d / length
    else:
        a = np.sqrt(1 - square)
    rotation = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
    ])  # fmt: skip
    steps = rotation * _qform_scales(fields)
    return np.column_stack([steps, fields["qoffset"]]).astype(np.float32).astype(np.float64)


def _qform_scales(fields: np.void) -> Matrix:
    scales: Matrix = fields["pixdim"][1:4].astype(np.float64)
    scales[2] *= -1 if fields["pixdim"][0] < 0 else 1
    return scales


def _qform_holds_sform(name: str, size: tuple[int, int, int], fields: np.void) -> bool:
    """Say whether a qform is the sform, or would be without the rounding of its quaternion.

    Where the sform's rotation has the quaternion that is stored, it takes the quaternion's place.
    """
    sform = fields["sform"].astype(np.float64)
    if farthest_corner(size, _qform(name, fields), sform)[1] <= CORNER_TOLERANCE_MM:
        return True
    from scipy.spatial.transform import Rotation  # slow to import, and seldom needed

    scales = _qform_scales(fields)
    rotation = sform[:, :3] / np.copysign(lengths_mm(sform[:, :3]), scales)
    if not np.linalg.det(rotation) > 0.5:
        return False
    exact = Rotation.from_matrix(rotation)
    quaternion = exact.as_quat(canonical=True)
    signs = (1, -1) if quaternion[3] < 1e-3 else (1,)
    stored = fields["quaternion"].astype(np.float64)
    apart = min(np.abs(stored - sign * quaternion[:3]).max() for sign in signs)
    qform = np.column_stack([exact.as_matrix() * scales, fields["qoffset"]])
    distance = farthest_corner(size, qform, sform)[1]
    return bool(apart <= _QUATERNION_ROUNDING and distance <= CORNER_TOLERANCE_MM)

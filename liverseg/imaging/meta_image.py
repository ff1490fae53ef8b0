"""The header of a MetaImage file, .mha or .mhd (itk.org/Wiki/ITK/MetaIO/Documentation)."""

import numpy as np

from liverseg.errors import CaseError
from liverseg.imaging.axes import SPACING_TOLERANCE, Matrix, check_axes, lengths_mm
from liverseg.imaging.header import (
    Encoding,
    Header,
    numbers,
    one_value,
    volume_size,
    whole_numbers,
)

DATA_FILE = "ElementDataFile"
_TYPES = {"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2",
          "MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4",
          "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
          "MET_DOUBLE": "f8"}  # fmt: skip
# Several names for one thing: they may all be there, if they say the same.
_ORIGINS = ("Offset", "Position", "Origin", "ImagePosition")
_MATRICES = ("TransformMatrix", "Orientation", "Rotation")
_BYTE_ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")


def fields(name: str, data: bytes) -> tuple[dict[str, str], int]:
    """Return the fields of a header, and the byte after its last one, which names the voxels.

    Raises CaseError where this is no MetaImage file, or one field has two values.
    """
    result: dict[str, str] = {}
    position = 0
    while DATA_FILE not in result:
        line, newline, _ = data[position:].partition(b"\n")
        position += len(line) + 1
        text = line.decode("latin-1")
        field, separator, value = text.partition("=" if "=" in text else ":")
        field, value = field.strip(), value.strip()
        named = separator and field.isascii() and field.isprintable()
        if not newline or (text.strip() and not named):
            raise CaseError(
                f"'{name}' is not a MetaImage file: it has {line[:40]!r} before '{DATA_FILE}'"
            )
        if result.setdefault(field, value) != value:
            raise CaseError(
                f"'{name}' contradicts itself: {field} is '{result[field]}' and '{value}'"
            )
    return result, position


def header(name: str, data: bytes) -> Header:
    """Return what the beginning of a file says.

    Raises CaseError, naming the file, where it is no MetaImage file, contradicts itself, is
    sheared, or holds no single volume of single values.
    """
    values, end = fields(name, data)
    if values.get("ObjectType", "Image") != "Image" or values.get("FileFormatVersion", "0") != "0":
        raise CaseError(
            f"'{name}' is not a MetaImage file that is read: its ObjectType is "
            f"'{values.get('ObjectType')}', its version '{values.get('FileFormatVersion', 0)}'"
        )
    if (unit := values.get("DistanceUnits", "mm").lower()) not in ("mm", "millimeter", "?", ""):
        raise CaseError(f"'{name}' has DistanceUnits {unit}; store its lengths in mm")
    dimensions = whole_numbers(name, "NDims", values.get("NDims", "").split(), 1)[0]
    sizes = whole_numbers(name, "DimSize", values.get("DimSize", "").split(), dimensions)
    size = volume_size(name, sizes)
    channels = values.get("ElementNumberOfChannels", "1").split()
    one_value(name, whole_numbers(name, "ElementNumberOfChannels", channels, 1)[0], "channels")
    spacing, origin, axes = _grid(name, values, dimensions)
    element = values.get("ElementType", "")
    if element not in _TYPES:
        raise CaseError(f"'{name}' has voxels of the type '{element}', which is not read")
    binary = _flag(values, "BinaryData", "True")
    packed = binary and _flag(values, "CompressedData")
    encoding: Encoding = "deflate" if packed else "raw" if binary else "text"
    big = {_flag(values, field) for field in _BYTE_ORDERS if field in values}
    if len(big) > 1:
        raise CaseError(f"'{name}' contradicts itself: {' and '.join(_BYTE_ORDERS)} differ")
    announced = values.get("CompressedDataSize", "0").split()
    packed_bytes = whole_numbers(name, "CompressedDataSize", announced, 1)
    local = values[DATA_FILE].upper() == "LOCAL"
    return Header(
        size=size,
        dtype=np.dtype(_TYPES[element]).newbyteorder(">" if True in big else "<"),
        spacing_mm=tuple(spacing.tolist()),
        origin_mm=tuple(origin.tolist()),
        direction=tuple(axes.ravel().tolist()),
        offset=_offset(name, values, end if local else 0, encoding),
        encoding=encoding,
        packed_bytes=packed_bytes[0] if packed else 0,
    )


def _grid(name: str, values: dict[str, str], dimensions: int) -> tuple[Matrix, Matrix, Matrix]:
    """Return spacing, origin and the axes of length 1 (columns), in LPS and millimetres."""
    spacing = _array(name, values, ("ElementSpacing",), dimensions)
    if spacing is None:
        spacing = _array(name, values, ("ElementSize",), dimensions)
    if spacing is None:
        spacing = np.ones(dimensions)
    origin = _array(name, values, _ORIGINS, dimensions)
    if origin is None:
        origin = np.zeros(dimensions)
    _array(name, values, ("CenterOfRotation",), dimensions)  # of no use, but not to be damaged
    rows = _array(name, values, _MATRICES, dimensions**2)
    matrix = np.eye(dimensions) if rows is None else rows.reshape(dimensions, dimensions)
    axes = matrix[:3, :3].T.copy()  # a row of the file is an axis
    if not (matrix[:3, 3:] == 0).all() or not (np.abs(spacing[:3]) == spacing[:3]).all():
        raise CaseError(
            f"'{name}' is damaged: its spacing is {spacing.tolist()}, its matrix {matrix.tolist()}"
        )
    check_axes(name, axes, origin[:3])
    if (np.abs(lengths_mm(axes) - 1) > SPACING_TOLERANCE).any():
        raise CaseError(
            f"'{name}' contradicts itself: its spacing (x, y, z) is {spacing[:3].tolist()} mm, and "
            f"the rows of its matrix have the lengths {np.round(lengths_mm(axes), 4).tolist()} "
            "instead of 1"
        )
    check_axes(name, axes * spacing[:3], origin[:3])
    return spacing[:3], origin[:3], axes


def _array(name: str, values: dict[str, str], names: tuple[str, ...], count: int) -> Matrix | None:
    """Return the numbers of a field, which has several names; None if there is none of them."""
    given = {field: numbers(name, field, values[field].split(), count)
             for field in names if field in values}  # fmt: skip
    first = next(iter(given), None)
    if first is None:
        return None
    for field, array in given.items():
        if array != given[first]:
            raise CaseError(
                f"'{name}' contradicts itself: {first} is {given[first]}, {field} is {array}; "
                "keep the one that is right"
            )
    return np.array(given[first])


def _flag(values: dict[str, str], field: str, default: str = "False") -> bool:
    return values.get(field, default)[:1] in ("T", "t", "1")


def _offset(name: str, values: dict[str, str], end: int, encoding: Encoding) -> int | None:
    """Return where the voxels begin in the file that has them; None: they are its end."""
    skip = whole_numbers(name, "HeaderSize", values.get("HeaderSize", "0").split(), 1)[0]
    if skip < -1 or (skip and (end or encoding != "raw")):
        raise CaseError(f"'{name}' skips {skip} bytes before its voxels, which is not read")
    return None if skip == -1 else end + skip

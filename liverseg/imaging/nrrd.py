"""The header of an NRRD file (teem.sourceforge.net/nrrd/format.html).

An axis beside the three of the patient, such as a list of volumes or of colours, must have one
value.
"""

from pathlib import Path

import numpy as np

from liverseg.errors import CaseError
from liverseg.imaging.axes import Matrix, check_axes, lengths_mm
from liverseg.imaging.header import (
    LONGEST_HEADER,
    Encoding,
    Header,
    numbers,
    one_value,
    volume_size,
    whole_numbers,
)
from liverseg.imaging.suffixes import is_segmentation

DATA_FILE = "data file"
_TYPES = {
    dtype: names.split(", ")
    for dtype, names in {
        "i1": "signed char, int8, int8_t",
        "u1": "uchar, unsigned char, uint8, uint8_t",
        "i2": "short, short int, signed short, signed short int, int16, int16_t",
        "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
        "i4": "int, signed int, int32, int32_t",
        "u4": "uint, unsigned int, uint32, uint32_t",
        "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, "
        "int64_t",
        "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
}
_ENCODINGS: dict[str, Encoding] = {
    "raw": "raw", "gzip": "deflate", "gz": "deflate", "ascii": "text", "text": "text",
    "txt": "text",
}  # fmt: skip
_SPATIAL_KINDS = ("domain", "space", "???", "none")
_ONE_VOLUME_KINDS = ("list", "time")
# To LPS. The last three say nothing of the patient and are taken as they are, as ITK does.
_SPACES = {
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "scanner-xyz": (1, 1, 1), "3d-right-handed": (1, 1, 1), "3d-left-handed": (1, 1, 1),
}  # fmt: skip
# Without each axis's direction they do not say how the patient lies in the file.
_PLACES = ("axis mins", "axismins", "space", "space origin")
_OTHER_UNITS = frozenset({
    "m", "cm", "dm", "um", "nm", "in", "inch", "inches", "micron", "microns", "meter",
    "meters", "metre", "metres", "centimeter", "centimeters", "centimetre", "centimetres",
    "micrometer", "micrometers", "micrometre", "micrometres",
})  # fmt: skip
# A damaged name of a field would silently take its value away.
_FIELDS = frozenset({
    "content", "number", "type", "block size", "blocksize", "dimension", "space",
    "space dimension", "sizes", "spacings", "thicknesses", "axis mins", "axismins", "axis maxs",
    "axismaxs", "space directions", "centers", "centerings", "kinds", "labels", "units", "min",
    "max", "old min", "oldmin", "old max", "oldmax", "data file", "endian", "encoding",
    "line skip", "lineskip", "byte skip", "byteskip", "sample units", "sampleunits",
    "space units", "space origin", "measurement frame",
})  # fmt: skip


def fields(name: str, data: bytes) -> tuple[dict[str, str], int]:
    """Return the fields of a header in lower case, and the byte after its end.

    Raises CaseError where this is no NRRD file or the header has no end.
    """
    if data[:7] != b"NRRD000" or data[7:8] not in b"12345":
        raise CaseError(f"'{name}' is not an NRRD file: it begins with {data[:16]!r}")
    result: dict[str, str] = {}
    position = 0
    while position < len(data):
        line, newline, _ = data[position:].partition(b"\n")
        if not newline and len(data) >= LONGEST_HEADER:
            raise CaseError(f"'{name}' is damaged: its header has no end in {LONGEST_HEADER} bytes")
        position += len(line) + len(newline)
        text = line.decode("latin-1").strip()
        if not text:
            break
        field, _, value = text.partition(":")
        field = field.strip().lower().replace("datafile", DATA_FILE)
        known = field in _FIELDS and not value.startswith("=")
        if text.startswith(("#", "NRRD000")) or (not known and ":=" in text):
            continue  # the second is a key of anybody's own, and both may have colons
        if not known or ":" not in text or field in result:
            raise CaseError(f"'{name}' is damaged: its header has the line '{text[:60]}'")
        result[field] = value.strip()
    return result, position


def header(name: str, data: bytes) -> Header:
    """Return what the beginning of a file says.

    Raises CaseError, naming the file, where it is no NRRD file, is sheared, or holds no single
    volume of single values.
    """
    values, end = fields(name, data)
    _check_units(name, values)
    dimension = whole_numbers(name, "dimension", values.get("dimension", "").split(), 1)[0]
    sizes = whole_numbers(name, "sizes", values.get("sizes", "").split(), dimension)
    vectors = _vectors(name, values, dimension)
    axes = _spatial_axes(name, values, sizes, vectors)
    size = volume_size(name, [sizes[axis] for axis in axes])
    grid, origin = _grid(name, values, axes[:3], vectors)
    detached = DATA_FILE in values
    offset = _offset(name, values, 0 if detached else end)
    spacing = lengths_mm(grid)
    return Header(
        size=size,
        dtype=_dtype(name, values),
        spacing_mm=tuple(spacing.tolist()),
        origin_mm=tuple(origin.tolist()),
        direction=tuple((grid * (1 / spacing)).ravel().tolist()),
        offset=offset,
        encoding=_encoding(name, values),
    )


def _check_units(name: str, values: dict[str, str]) -> None:
    """Raise CaseError for lengths in another unit than millimetres."""
    for field in ("units", "space units"):
        for unit in values.get(field, "").split('"')[1::2]:
            # Of µm, whose first letter has two characters and several encodings, the m remains.
            if unit.encode("ascii", "ignore").decode().strip().lower() in _OTHER_UNITS:
                raise CaseError(f"'{name}' has '{field}' {unit}; store its lengths in mm")


def _spatial_axes(
    name: str, values: dict[str, str], sizes: list[int], vectors: list[Matrix | None]
) -> list[int]:
    """Return the axes of a volume, the fastest first; the others have one value each."""
    kinds = values.get("kinds", "").lower().split() or ["???"] * len(sizes)
    if len(kinds) != len(sizes):
        raise CaseError(f"'{name}' is damaged: 'kinds' names {len(kinds)} axes of {len(sizes)}")
    spatial = []
    for axis, kind in enumerate(kinds):
        in_space = vectors[axis] is not None if any(v is not None for v in vectors) else True
        if in_space and kind in _SPATIAL_KINDS + _ONE_VOLUME_KINDS[1:]:
            spatial.append(axis)
        elif kind in _ONE_VOLUME_KINDS + _SPATIAL_KINDS and sizes[axis] > 1:
            if is_segmentation(Path(name)):
                raise CaseError(
                    f"'{name}' has its segments in {sizes[axis]} layers, since they overlap, and "
                    "one is needed; export the segment that counts from 3D Slicer as a label map "
                    "of its own (Segmentations, Export to files)"
                )
            raise CaseError(
                f"'{name}' has {sizes[axis]} volumes (kind '{kind}'); one is needed: save it as a "
                "file of its own"
            )
        else:
            one_value(name, sizes[axis], kind)
    # An axis of one value that nothing says more about.
    while len(spatial) > 3 and sizes[spatial[0]] == 1 and sizes[spatial[-1]] > 1:
        del spatial[0]
    return spatial


def _vectors(name: str, values: dict[str, str], dimension: int) -> list[Matrix | None]:
    """Return each axis's step in the file's own space, None where it has none."""
    field = "space directions"
    words = values.get(field, " ".join(["none"] * dimension))
    vectors: list[Matrix | None] = []
    for word in words.replace("(", " (").replace(", ", ",").split():
        if word.lower() == "none":
            vectors.append(None)
            continue
        vector = np.array(numbers(name, field, word.strip("()").split(",")))
        vectors.append(None if np.isnan(vector).all() else vector)
    if len(vectors) != dimension:
        raise CaseError(f"'{name}' is damaged: '{field}' names {len(vectors)} axes of {dimension}")
    return vectors


def _grid(
    name: str, values: dict[str, str], axes: list[int], vectors: list[Matrix | None]
) -> tuple[Matrix, Matrix]:
    """Return steps (columns) and origin in LPS and millimetres."""
    steps = [vectors[axis] for axis in axes]
    if all(step is None for step in steps):
        words = values.get("spacings", "").split() or ["1"] * (max(axes) + 1)
        spacings = numbers(name, "spacings", words)
        placed = [field for field in _PLACES if field in values]
        if placed:
            raise CaseError(
                f"'{name}' says where it lies by '{placed[0]}' without 'space directions', which "
                "is not read; save it with 'space directions' and 'space origin'"
            )
        if len(spacings) <= max(axes):
            raise CaseError(f"'{name}' is damaged: 'spacings' has {len(spacings)} values")
        grid, origin = np.diag([spacings[axis] for axis in axes]), np.zeros(3)
        grid = np.where(np.isnan(grid), 1.0, grid)
    else:
        if "spacings" in values:
            raise CaseError(f"'{name}' has both 'spacings' and 'space directions'; keep one")
        words = values.get("space origin", "(0,0,0)").strip("()").replace(",", " ").split()
        known = [step for step in steps if step is not None and len(step) in (3, 4)]
        known.append(np.array(numbers(name, "space origin", words)))
        if len(known) < 4 or len(known[3]) < 3 or any(step[3:].any() for step in known[:3]):
            raise CaseError(
                f"'{name}' is damaged: it needs three 'space directions' and a 'space origin' of "
                "three numbers each"
            )
        to_lps = _to_lps(name, values)
        matrix = np.column_stack([vector[:3] for vector in known]) * np.array(to_lps)[:, None]
        grid, origin = matrix[:, :3], matrix[:, 3]
    check_axes(name, grid, origin)
    return grid, origin


def _to_lps(name: str, values: dict[str, str]) -> tuple[int, int, int]:
    space = values.get("space", "").lower()
    known = {**_SPACES, **{f"{s}t": v for s, v in _SPACES.items() if len(s) == 3}, "": (1, 1, 1)}
    if space.removesuffix("-time") not in known:
        raise CaseError(f"'{name}' is damaged: its 'space' is '{space}', which NRRD does not have")
    return known[space.removesuffix("-time")]


def _dtype(name: str, values: dict[str, str]) -> np.dtype[np.generic]:
    typed = " ".join(values.get("type", "").lower().split())
    dtype = next((np.dtype(d) for d, names in _TYPES.items() if typed in names), None)
    if dtype is None:
        raise CaseError(f"'{name}' has voxels of the type '{typed}', which is not read")
    endian = values.get("endian", "").lower()
    if dtype.itemsize > 1 and endian not in ("little", "big") and _encoding(name, values) != "text":
        raise CaseError(f"'{name}' is damaged: its 'endian' is '{endian}', not little or big")
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _encoding(name: str, values: dict[str, str]) -> Encoding:
    encoding = values.get("encoding", "").lower()
    if encoding not in _ENCODINGS:
        raise CaseError(
            f"'{name}' has the encoding '{encoding}', which is not read; save it as raw or gzip"
        )
    return _ENCODINGS[encoding]


def _offset(name: str, values: dict[str, str], end: int) -> int | None:
    """Return where the voxels begin in the file that has them; None: they are its end."""
    lines = values.get("line skip", values.get("lineskip", "0"))
    text = values.get("byte skip", values.get("byteskip", "0"))
    skip = whole_numbers(name, "byte skip", text.split(), 1)[0]
    if lines != "0" or (skip and _encoding(name, values) != "raw") or skip < -1:
        raise CaseError(
            f"'{name}' skips {lines} lines and {skip} bytes before its voxels, which is not read"
        )
    if skip == -1:
        # After a header in the same file they begin at once: what else lay between the two could be
        # voxels of which some are missing.
        return end or None
    return end + skip

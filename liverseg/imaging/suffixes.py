"""Which format a file has, by the end of its name: capital letters mean the same."""

from pathlib import Path

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Formats that are read."""
WRITABLE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Formats that are written: one file each, which a rename moves into place."""
NIFTI_SUFFIXES = (".nii.gz", ".nii")
SEGMENTATION_SUFFIX = ".seg.nrrd"

_PAIRS = (".hdr", ".img", ".hdr.gz", ".img.gz")


def suffix_of(path: Path) -> str:
    """Return the one of `SUFFIXES` that a file's name ends with, in lower case; "" if none."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def stem_of(path: Path) -> str:
    """Return a file's name without its format's suffix, which of a segmentation is .seg.nrrd."""
    suffix = SEGMENTATION_SUFFIX if is_segmentation(path) else suffix_of(path)
    return path.name[: len(path.name) - len(suffix)]


def is_segmentation(path: Path) -> bool:
    """Say whether a file is a segmentation of 3D Slicer, by its name: an NRRD file of labels."""
    return path.name.lower().endswith(SEGMENTATION_SUFFIX)


def why_not_read(path: Path) -> str:
    """Return what is wrong with the name of a file that has none of `SUFFIXES`."""
    if path.name.lower().endswith(_PAIRS):
        return (
            f"'{path.name}' is one half of a pair (.hdr/.img), a format that is not read; save it "
            "as one file, such as with nibabel.save(nibabel.load('x.hdr'), 'x.nii.gz')"
        )
    return f"'{path.name}' is of a format that is not read; save it as {', '.join(SUFFIXES)}"

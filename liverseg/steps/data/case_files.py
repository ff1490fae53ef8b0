"""The files of one case: read once, hashed, decoded from the bytes that were hashed."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from liverseg.core.volumes.volume import Volume
from liverseg.errors import CaseError
from liverseg.imaging.files import check_same_grid, decode
from liverseg.imaging.masks import Kind, LabelMask, decode_mask
from liverseg.imaging.stored_file import StoredFile, load
from liverseg.settings import PREPARATION_VERSION, Settings, SliceAxis, digest
from liverseg.steps.data.case_folder import Problem


def load_files(files: Mapping[str, Path]) -> tuple[dict[str, StoredFile], list[Problem]]:
    """Return the bytes of every file that can be read, and what is wrong with the others."""
    stored: dict[str, StoredFile] = {}
    problems: list[Problem] = []
    for name, path in files.items():
        try:
            stored[name] = load(path)
        except CaseError as error:
            problems.append((path.name, str(error)))
    return stored, problems


def case_key(sha256: Mapping[str, str], settings: Settings) -> str:
    """Return the hash (hex) of the files' hashes and of all that decides what becomes of them.

    Neither the case's name nor where it lies is part of it.
    """
    labels = settings.data.labels
    return digest(
        {
            "files": dict(sha256),
            "preparation": settings.preparation.changed,
            "preparation_version": PREPARATION_VERSION,
        }
        | ({"labels": labels} if labels else {})
    )


def copies_of_the_image(stored: Mapping[str, StoredFile]) -> dict[str, Problem]:
    """Return a problem for each mask, by name, whose bytes are those of the image."""
    if "image" not in stored:
        return {}
    image = stored["image"]
    return {
        name: _copy(file, image)
        for name, file in stored.items()
        if name != "image" and file.sha256 == image.sha256
    }


def decode_files(
    stored: Mapping[str, StoredFile], settings: Settings
) -> tuple[dict[str, Volume], dict[str, tuple[int, ...]], list[Problem]]:
    """Return every volume of a case that can be used, and everything that is wrong.

    Masks must lie on the image's grid; without a readable image nothing is compared. Between the
    two stand, by name, the labels of the masks' files that have some of which none counts.
    """
    volumes: dict[str, Volume] = {}
    unlabelled: dict[str, tuple[int, ...]] = {}
    problems: list[Problem] = []
    axis, labels = settings.preparation.slice_axis, settings.data.labels
    for name, file in stored.items():
        try:
            if name == "image":
                volumes[name] = decode(file, axis)
                continue
            kind: Kind = "liver" if name == "liver" else "lesion"
            mask = decode_mask(file, labels.get(kind, ()), kind, axis)
            on_grid: Volume = mask
            if "image" in volumes:
                on_grid = check_same_grid(volumes["image"], mask, file.path.name)
                if _may_be(volumes["image"], mask) and _has_voxels_of(volumes["image"], file, axis):
                    problems.append(_copy(file, stored["image"]))
                    continue
            volumes[name] = on_grid
            if mask.labels and not mask.voxels.any():
                unlabelled[name] = mask.labels
        except CaseError as error:
            image = volumes.get("image")
            copied = name != "image" and image is not None and _has_voxels_of(image, file, axis)
            problem = file.path.name, str(error)
            problems.append(_copy(file, stored["image"]) if copied else problem)
    return volumes, unlabelled, problems


def _may_be(image: Volume, mask: LabelMask) -> bool:
    """Say whether an image has no other values than a mask's file, so that they may be the same."""
    return bool(mask.labels) and float(image.voxels.max()) == mask.labels[-1]


def _has_voxels_of(image: Volume, file: StoredFile, axis: SliceAxis) -> bool:
    """Say whether a file is the image, saved once more."""
    try:
        return np.array_equal(decode(file, axis).voxels, image.voxels)
    except CaseError:
        return False


def _copy(file: StoredFile, image: StoredFile) -> Problem:
    return (
        file.path.name,
        f"'{file.path.name}' has the voxels of '{image.path.name}': the image was saved in the "
        "place of a mask; export the mask again",
    )

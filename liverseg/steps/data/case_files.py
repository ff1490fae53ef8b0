"""The files of one case: read once, hashed, decoded from the bytes that were hashed."""

from collections.abc import Mapping
from pathlib import Path

from liverseg.core.volumes.volume import Volume
from liverseg.errors import CaseError
from liverseg.imaging.files import check_same_grid, decode, decode_mask
from liverseg.imaging.stored_file import StoredFile, load
from liverseg.settings import PREPARATION_VERSION, PreparationSettings, digest
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


def case_key(sha256: Mapping[str, str], preparation: PreparationSettings) -> str:
    """Return the hash (hex) of the files' hashes and of all that decides what becomes of them.

    Neither the case's name nor where it lies is part of it.
    """
    return digest(
        {
            "files": dict(sha256),
            "preparation": preparation.changed,
            "preparation_version": PREPARATION_VERSION,
        }
    )


def decode_files(stored: Mapping[str, StoredFile]) -> tuple[dict[str, Volume], list[Problem]]:
    """Return every volume of a case that can be used, and everything that is wrong.

    Masks must lie on the image's grid; without a readable image nothing is compared.
    """
    volumes: dict[str, Volume] = {}
    problems: list[Problem] = []
    for name, file in stored.items():
        try:
            volume = decode(file) if name == "image" else decode_mask(file)
            if name != "image" and "image" in volumes:
                volume = check_same_grid(volumes["image"], volume, file.path.name)
            volumes[name] = volume
        except CaseError as error:
            problems.append((file.path.name, str(error)))
    return volumes, problems

"""Whether the files that a user names for output can be written, before anything is read.

An output never replaces an input, whatever name or link leads to it, nor another output.
"""

import os
import stat
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from liverseg.errors import LiversegError, SettingsError
from liverseg.imaging.stored_file import data_file
from liverseg.storage.folder import FolderStore
from liverseg.storage.port import ObjectStore
from liverseg.storage.refusals import refusal

# The first parts of a store's keys (docs/store.md), and the folders that are no keys.
_IN_STORE = frozenset({
    "blobs", "cases", "datasets", "predictions", "scans", "segmentations", "studies", "thresholds",
    "versions", "votes", ".incoming", ".local",
})  # fmt: skip


@dataclass(frozen=True)
class Output:
    """A file that a command writes.

    Args:
        option: What names it on the command line, such as "--csv".
        path: Where it goes.
        suffixes: One of them has to end its name; none: any name.
    """

    option: str
    path: Path
    suffixes: tuple[str, ...] = ()


def check_outputs(outputs: Sequence[Output], inputs: Iterable[Path]) -> None:
    """Refuse outputs that cannot be written or must not be; nothing is left on the disk.

    Args:
        outputs: What the command will write.
        inputs: What it reads. The file of voxels that an .mhd or .nrrd header names is an input as
            well.

    Raises:
        SettingsError: A wrong suffix; not a regular file; an input, or two outputs, by the same
            path, a link or a hard link.
        StoreError: No right to write there, or a read-only file system.
    """
    taken = [(path, "an input") for path in _with_voxels(inputs)]
    for output in outputs:
        same = next(((p, role) for p, role in taken if _same(output.path, p)), None)
        if same is not None:
            raise SettingsError(
                f"{output.option} '{output.path}' is the same file as '{same[0]}', {same[1]}; "
                "choose another name"
            )
        taken.append((output.path, f"given to {output.option}"))
    for output in outputs:
        if output.suffixes and not output.path.name.lower().endswith(output.suffixes):
            known = ", ".join(output.suffixes)
            raise SettingsError(f"{output.option} '{output.path}' must end with one of {known}")
        _try(output)


def check_apart(store: ObjectStore, data: str) -> None:
    """Refuse a store in the data folder, where its folders would be taken for cases.

    `data` is a folder or a URL, of which there is nothing to compare. Raises SettingsError.
    """
    if "://" in data or not isinstance(store, FolderStore):
        return
    root, folder = (Path(os.path.realpath(path)) for path in (store.root, data))
    inside = root.relative_to(folder).parts if root.is_relative_to(folder) else (".",)
    if not inside or not inside[0].startswith("."):
        raise SettingsError(
            f"the store '{store.root}' lies among the cases in '{data}'; choose a folder elsewhere"
        )


def check_outside(store: ObjectStore | None, outputs: Sequence[Output]) -> None:
    """Refuse outputs among what a store in a folder keeps, which a command reads.

    Raises SettingsError.
    """
    if not isinstance(store, FolderStore):
        return
    root = Path(os.path.realpath(store.root))
    for output in outputs:
        path = Path(os.path.realpath(output.path))
        if path == root or any(path.is_relative_to(root / name) for name in _IN_STORE):
            raise SettingsError(
                f"{output.option} '{output.path}' lies among what the store '{store.root}' keeps; "
                "choose another folder"
            )


def _with_voxels(inputs: Iterable[Path]) -> list[Path]:
    paths = []
    for path in inputs:
        paths.append(path)
        with suppress(LiversegError, OSError):  # what is wrong with it is told where it is read
            beside = data_file(path)
            paths += [] if beside is None else [beside]
    return paths


def _same(one: Path, other: Path) -> bool:
    """Return whether two paths are one file: by its name, over links, or as hard links."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there yet
        return False


def _try(output: Output) -> None:
    """Make a file in the output's folder, or in the one where its folder is to be, and delete it.

    Raises SettingsError and StoreError as `check_outputs`.
    """
    path = Path(os.path.realpath(output.path))
    folder = path.parent
    try:
        _check_replaceable(output, path)
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise SettingsError(f"{output.option} '{output.path}': '{folder}' is not a folder")
        temporary = folder / f".{uuid.uuid4().hex}"
        try:
            temporary.touch(exist_ok=False)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise refusal(error, "write", output.path) from error


def _check_replaceable(output: Output, path: Path) -> None:
    """Refuse what is there already and is no regular file, or is protected; raises OSError too."""
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(state.st_mode):
        kind = "a folder" if stat.S_ISDIR(state.st_mode) else "not a regular file"
        raise SettingsError(f"{output.option} '{output.path}' is {kind}; name a file")
    # The rename that replaces it asks for the right to write in its folder only.
    with path.open("r+b"):
        pass

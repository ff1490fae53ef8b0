"""Folders that a process may write to, where the usual ones are absent.

A pod or a container may run as a user that nobody has named, without HOME, and with a root file
system that is read-only.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from liverseg.errors import SettingsError

MEMORY = Path("/dev/shm")  # noqa: S108
"""A file system in memory, which Linux has even where nothing else can be written."""
_CONFIG, _CACHE = ("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache")


def user_folders(environment: Mapping[str, str]) -> tuple[Path | None, Path | None]:
    """Return the user's folders for settings and for what may be lost; None: there is no home.

    Source: XDG base directory specification.
    """
    return _of_user(environment, *_CONFIG), _of_user(environment, *_CACHE)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of liverseg in $XDG_CACHE_HOME or ~/.cache.

    Where there is no home, or it cannot be written, it is $TMPDIR/liverseg-cache-UID; raises
    SettingsError where that one belongs to another user.
    """
    usual = _of_user(environment, *_CACHE)
    if usual is not None and (environment.get(_CACHE[0]) or can_write(usual)):
        return usual / "liverseg"
    folder = Path(tempfile.gettempdir()) / f"liverseg-cache-{os.getuid()}"
    if folder.exists() and folder.stat().st_uid != os.getuid():
        raise SettingsError(f"'{folder}' belongs to another user; set XDG_CACHE_HOME")
    return folder


def can_write(path: Path) -> bool:
    """Return whether a folder can be written, or made where it is not there."""
    try:
        while not path.exists():
            path = path.parent
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False


def _of_user(environment: Mapping[str, str], variable: str, below_home: str) -> Path | None:
    if named := environment.get(variable):
        return Path(named)
    try:
        return Path.home() / below_home
    except RuntimeError:  # no HOME, and the user id has no name
        return None

"""What a process of liverseg needs of its environment, given where it is absent.

Nothing but what Python has imported already is imported here, until the working directory is off
the import path.
"""

# pathlib may be what a file in the working directory hides.
# ruff: noqa: PTH100, PTH109, PTH120
import os
import sys


def prepare() -> None:
    """Make this process, and all that it starts, independent of where and as whom it runs."""
    _leave_out_working_directory()
    from liverseg.platform.output_encoding import print_every_character

    _provide_folders()
    print_every_character()
    if os.environ.get("COLUMNS") == "0":  # of a terminal that knows no width: rich would print none
        del os.environ["COLUMNS"]


def _leave_out_working_directory() -> None:
    """Take the working directory off the import path: no file in it may hide a module.

    `python -m liverseg.cli` puts it there, and an empty part of PYTHONPATH does. Where liverseg
    itself is imported from it, it stays.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    if paths := os.environ.get("PYTHONPATH"):
        os.environ["PYTHONPATH"] = os.pathsep.join(p for p in paths.split(os.pathsep) if p)
    try:
        here = os.getcwd()
    except OSError:  # it was deleted: nothing can be imported from it
        return
    package = os.path.abspath(__file__)
    for _ in range(3):
        package = os.path.dirname(package)
    if package != here:
        sys.path[:] = [path for path in sys.path if path not in ("", here)]


def _provide_folders() -> None:
    """Name a temporary folder, and one for matplotlib's files, where the usual ones are absent.

    Without them nothing can be read, and matplotlib warns, or refuses to be imported.
    """
    import atexit
    import shutil
    import tempfile
    from contextlib import suppress

    from liverseg.platform.folders import MEMORY, can_write, user_folders

    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        if can_write(MEMORY):
            os.environ["TMPDIR"] = str(MEMORY)
    if os.environ.get("MPLCONFIGDIR"):
        return
    if not all(f is not None and can_write(f / "matplotlib") for f in user_folders(os.environ)):
        with suppress(OSError):
            folder = tempfile.mkdtemp(prefix="liverseg-matplotlib-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            os.environ["MPLCONFIGDIR"] = folder

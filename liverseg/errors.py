"""Every error a user can meet, by what the caller may do about it.

LiversegError            a defect, where no class below fits
├─ SettingsError         a setting, flag, split or right is wrong: correct it, start again
├─ CaseError             one case cannot be used: repair it or leave it out
├─ StoreError            no permission, no space, no connection: correct it and start again
│  ├─ NotFound           no such key
│  └─ StoreAway          no answer: a connection, a timeout, 5xx; it may come back
├─ IntegrityError        stored bytes differ from what their manifest promises
├─ StudyError            the race cannot continue or has not got that far
│  ├─ StudyHeld          another controller runs the study
│  ├─ Fenced             another controller has taken the study over: do not start again
│  └─ Stopped            the budget is spent, or somebody stopped the study
├─ PlatformError         what runs the trainers does not answer: start again when it does
└─ SettingsDiffer        a trainer of another version than its study's; the controller stops

The exit codes and their meaning for the user: liverseg/exit_codes.py.
"""

import re
import traceback
from pathlib import Path

from liverseg.exit_codes import ExitCode

# What torch (CPU and CUDA) and SimpleITK say of it in a RuntimeError.
_OUT_OF_MEMORY = re.compile(r"out of memory|allocate memory|bad_alloc|not enough memory", re.I)


class LiversegError(Exception):
    """Something the user can understand and act on; the message says what to do."""

    exit_code: int = ExitCode.DEFECT


class SettingsError(LiversegError):
    """A setting, flag or split file is wrong, or the cluster does not allow what is asked."""

    exit_code = ExitCode.SETTINGS


class CaseError(LiversegError):
    """One case cannot be used; the message names the case, the file and both values."""

    exit_code = ExitCode.CASE


class StoreError(LiversegError):
    """The object store: permission denied, no space, no connection."""

    exit_code = ExitCode.STORE


class NotFound(StoreError):
    """The store has no such key."""


class StoreAway(StoreError):
    """The object store does not answer, or says that it cannot just now; it may come back."""


class IntegrityError(LiversegError):
    """Stored bytes do not have the SHA-256 that their manifest promises."""

    exit_code = ExitCode.INTEGRITY


class StudyError(LiversegError):
    """The race cannot go on, or has not got as far as the step needs."""

    exit_code = ExitCode.STUDY


class StudyHeld(StudyError):
    """Another controller runs the study; the message names it."""


class Fenced(StudyError):
    """Another controller has taken the study over; this one must stop acting.

    Its own exit code, so that whoever started it does not start it again: the two would take the
    study from each other for ever.
    """

    exit_code = ExitCode.FENCED


class Stopped(StudyError):
    """The study rests, nothing is lost: its budget is spent, or somebody stopped it."""


class PlatformError(LiversegError):
    """What runs the trainers, such as a cluster's API, is away or cannot answer now."""

    exit_code = ExitCode.PLATFORM


class SettingsDiffer(LiversegError):
    """A trainer would give other weights than the study promises; only `train` ends so."""

    exit_code = ExitCode.SETTINGS_DIFFER


def as_ours(error: Exception) -> LiversegError | None:
    """Return an error of the system as what the user can act on; None for a defect of ours.

    That is an error of the file system outside the store, and memory that was not enough, which
    torch and SimpleITK report as a RuntimeError.
    """
    if isinstance(error, LiversegError):
        return error
    if isinstance(error, OSError):
        return StoreError(": ".join(str(s) for s in (error.strerror or error, error.filename) if s))
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error))
    ):
        return PlatformError(f"out of memory: {_first_line(error) or 'an allocation failed'}")
    return None


def reason(error: Exception) -> str:
    """Return in one line why a case cannot be used, whatever its reading or evaluation raised.

    One case's error must not end a run of many, so that a defect of ours, or a library's error that
    nobody expected, is told like this too: with its type and the line of liverseg that met it.
    """
    ours = as_ours(error)
    if ours is not None:
        return str(ours)
    frames = traceback.extract_tb(error.__traceback__)
    met = next((f for f in reversed(frames) if "liverseg" in Path(f.filename).parts), None)
    where = f" in {Path(met.filename).name}, line {met.lineno}" if met else ""
    return f"{type(error).__name__}{where}: {_first_line(error) or 'no message'}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")

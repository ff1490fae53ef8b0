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

from liverseg.exit_codes import ExitCode


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


def as_ours(error: LiversegError | OSError) -> LiversegError:
    """Return an error of the file system outside the store as what the user can act on."""
    if isinstance(error, LiversegError):
        return error
    return StoreError(f"{error.strerror or error}: {error.filename or 'a file'}")

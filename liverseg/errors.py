"""Every error a user can meet, by what the caller may do about it.

LiversegError            exit code 1
├─ SettingsError         2   a setting, flag or split is wrong: correct it and start again
├─ CaseError             3   one case cannot be used: mend it or leave it out
├─ StoreError            4   the store refuses (rights, disk, network): mend it and start again
│  ├─ NotFound               no such key
│  └─ StoreAway              no answer: a connection, a timeout, 5xx; it may come back
├─ IntegrityError        5   stored bytes differ from what their manifest promises
├─ StudyError            6   the race cannot go on or has not got that far
│  ├─ Fenced                 another controller has taken the study over
│  └─ Stopped                the budget is spent, or somebody stopped the study
├─ PlatformError         7   what runs the trainers does not answer: start again when it does
└─ SettingsDiffer       77   a trainer of another version than its study's; the controller stops
"""


class LiversegError(Exception):
    """Something the user can understand and act on; the message says what to do."""

    exit_code = 1


class SettingsError(LiversegError):
    """A setting, flag or split file is wrong."""

    exit_code = 2


class CaseError(LiversegError):
    """One case cannot be used; the message names the case, the file and both values."""

    exit_code = 3


class StoreError(LiversegError):
    """The object store refused: no rights, no space, no connection."""

    exit_code = 4


class NotFound(StoreError):
    """The store has no such key."""


class StoreAway(StoreError):
    """The object store does not answer, or says that it cannot just now; it may come back."""


class IntegrityError(LiversegError):
    """Stored bytes do not have the SHA-256 that their manifest promises."""

    exit_code = 5


class StudyError(LiversegError):
    """The race cannot go on, or has not got as far as the step needs."""

    exit_code = 6


class Fenced(StudyError):
    """Another controller has taken the study over; this one must stop acting."""


class Stopped(StudyError):
    """The study rests, nothing is lost: its budget is spent, or somebody stopped it."""


class PlatformError(LiversegError):
    """What runs the trainers, such as a cluster's API, is away or refuses."""

    exit_code = 7


class SettingsDiffer(LiversegError):
    """A trainer would give other weights than the study promises; only `train` ends so."""

    exit_code = 77


def as_ours(error: LiversegError | OSError) -> LiversegError:
    """Return an error of the file system outside the store as what the user can act on."""
    if isinstance(error, LiversegError):
        return error
    return StoreError(f"{error.strerror or error}: {error.filename or 'a file'}")

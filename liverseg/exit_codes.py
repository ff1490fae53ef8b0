"""Every exit code of `liverseg`, and what it means; `--help` and README's table are made of it."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended; the member's `meaning` is one line for the user.

    75 to 78 are a trainer's own ways to end. Every other code of a trainer that is not 0, and
    every signal, is a failure of its infrastructure.
    """

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "ExitCode":
        """Return the member: the int `code` with its `meaning`."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    DONE = 0, "done; of a trainer: its report is committed"
    DEFECT = 1, "a defect of liverseg (please report the traceback)"
    SETTINGS = 2, "a setting, flag or split file is wrong, or the cluster denies permission"
    CASE = 3, "a case cannot be used"
    STORE = 4, "the store is unreachable, full, or permission is denied"
    INTEGRITY = 5, "stored bytes are damaged, or `study replay` found a difference"
    STUDY = 6, "the race cannot continue, is not that far, was stopped, or has another controller"
    PLATFORM = 7, "the platform that runs the trainers does not answer, or memory has run out"
    CASES_EXCLUDED = 8, "only `evaluate`: some cases were left out, all others are evaluated"
    FENCED = 9, "another controller has taken the study over and continues it; do not start again"
    INTERRUPTED = 75, "only `train`: interrupted; a checkpoint is saved"
    ORPHANED = 76, "only `train`: no controller left, or a later attempt; a checkpoint is saved"
    SETTINGS_DIFFER = 77, "only `train`: this version would give other weights than the study's"
    NOT_FINITE = 78, "only `train`: the loss is not finite"
    CANCELLED = 130, "interrupted with Ctrl-C; the same command continues from there"


TRAINER_CODES = (
    ExitCode.DONE,
    ExitCode.INTERRUPTED,
    ExitCode.ORPHANED,
    ExitCode.SETTINGS_DIFFER,
    ExitCode.NOT_FINITE,
)
"""What `train` adds to the errors that every command can end with."""


def help_text(codes: tuple[ExitCode, ...] = tuple(ExitCode)) -> str:
    """Return the codes as a paragraph of a command's epilog whose lines click keeps."""
    return "\b\nExit codes\n" + "".join(f"  {code:<3} {code.meaning}\n" for code in codes)


def markdown_table() -> str:
    """Return the table of README.md, which a test compares with it."""
    rows = "".join(f"| {code:d} | {code.meaning} |\n" for code in ExitCode)
    return "| exit code | meaning |\n|---|---|\n" + rows

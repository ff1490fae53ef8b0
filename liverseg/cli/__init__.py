"""The command line: arguments and environment to settings and steps; the only code that prints."""

import os
import signal
import sys
from types import FrameType

from liverseg.cli.environment import prepare
from liverseg.exit_codes import ExitCode


def main() -> None:
    """Run the command line (cli/root.py).

    In a pod a trainer is PID 1, which gets no signal that it has no handler for: a pod deleted
    while its trainer imports torch, or reads its cases, would live for its whole grace period.
    Hence the handler before all other imports; the training's own one (steps/training/train.py),
    which saves, replaces it as long as there is something to save.
    """
    if sys.argv[1:2] == ["train"]:
        signal.signal(signal.SIGTERM, _end)
    prepare()
    from liverseg.cli.root import run

    run()


def _end(_number: int, _frame: FrameType | None) -> None:
    """End the process at once: an exception might be caught by whatever is being imported."""
    os._exit(ExitCode.INTERRUPTED)

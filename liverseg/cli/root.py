"""The commands, and what their errors become.

Commands import what they need when they run, so that `--help` is quick and the commands of the
controller's side work where torch is not installed.
"""

import os
import sys
import traceback

import click

from liverseg import __version__
from liverseg.cli.console import error_console
from liverseg.cli.data.data import phantom, preprocess, scan
from liverseg.cli.data.dataset import dataset
from liverseg.cli.metrics import metrics
from liverseg.cli.pipeline import pipeline
from liverseg.cli.race.study import study
from liverseg.cli.results.evaluate import evaluate
from liverseg.cli.results.network import postprocess, predict, train
from liverseg.cli.results.results import report
from liverseg.errors import as_ours
from liverseg.exit_codes import ExitCode, help_text

EXAMPLE = """\b
The whole study, on synthetic cases
  liverseg phantom build/phantom
  liverseg pipeline run --data build/phantom --split build/phantom/split.json \\
           --preset demo --store build/store

"""
EPILOG = EXAMPLE + help_text()


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def root() -> None:
    """Race sixteen 3D U-Nets to one that finds liver tumours in late-phase MRI.

    The method is Hänsch et al., Sci Rep 12:12262 (2022). Research software, not a medical device.
    """


for command in (
    phantom, dataset, scan, preprocess, train, predict, postprocess, evaluate, report, study,
    pipeline, metrics,
):  # fmt: skip
    root.add_command(command)


def run() -> None:
    """Run the command of sys.argv; an error becomes one line and an exit code.

    Only what is neither ours nor the system's is a defect, and shown with its traceback.
    """
    try:
        root(standalone_mode=False)
        # What is printed may meet a full disk only here.
        sys.stdout.flush()
    except click.exceptions.Abort:
        error_console.print("interrupted; the same command continues from here")
        sys.exit(ExitCode.CANCELLED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as raised:  # noqa: BLE001 - the last resort
        sys.exit(_exit_code_of(raised))
    finally:
        _let_go_of_output()


def _exit_code_of(raised: Exception) -> int:
    """Print an error; return the exit code."""
    ours = as_ours(raised)
    if ours is None:
        traceback.print_exception(raised)
    error_console.print("error:", style="bold red", end=" ")
    said = str(ours) if ours else f"a defect of liverseg {__version__}; please report the traceback"
    error_console.print(said, soft_wrap=True)
    return ExitCode.DEFECT if ours is None else ours.exit_code


def _let_go_of_output() -> None:
    """Discard what standard output cannot take, which Python would report once more as it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""The command line: arguments and environment to settings and steps; the only place that prints.

Commands import what they need when they run, so that `--help` is quick and the commands of the
controller's side work where torch is not installed.
"""

import sys

import click

from liverseg import __version__
from liverseg.cli.console import error_console
from liverseg.cli.data.data import phantom, preprocess, scan
from liverseg.cli.data.dataset import dataset
from liverseg.cli.pipeline import pipeline
from liverseg.cli.race.study import study
from liverseg.cli.results.evaluate import evaluate
from liverseg.cli.results.network import postprocess, predict, train
from liverseg.cli.results.results import report
from liverseg.errors import LiversegError, as_ours

EPILOG = """\b
The whole study, on synthetic cases
  liverseg phantom build/phantom
  liverseg pipeline run --data build/phantom --split build/phantom/split.json \\
           --preset demo --store build/store

\b
Exit codes
  0  done
  1  a defect of liverseg (please report the traceback)
  2  a setting, flag or split file is wrong
  3  a case cannot be used
  4  the store refuses: rights, space, connection
  5  stored bytes are damaged, or `study replay` found a difference
  6  the race cannot go on, has not got that far, rests (budget spent, `study stop`),
     or is run by another controller
  7  what runs the trainers does not answer
  8  only `evaluate`: partly done; cases were left out, all others are evaluated
  9  another controller has taken the study over; this one has ended, nothing is to be done
  75  only `train`: interrupted, a checkpoint is saved
  76  only `train`: no controller any more, or a successor; a checkpoint is saved
  77  only `train`: this version would give other weights than the study's
  78  only `train`: the loss is not finite
  130  interrupted with Ctrl-C; the same command goes on from there
"""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def root() -> None:
    """Race sixteen 3D U-Nets to one that finds liver tumours in late-phase MRI.

    The method is Hänsch et al., Sci Rep 12:12262 (2022). Research software, not a medical device.
    """


for command in (
    phantom, dataset, scan, preprocess, train, predict, postprocess, evaluate, report, study,
    pipeline,
):  # fmt: skip
    root.add_command(command)


def main() -> None:
    """Run the command line; our own errors become one line and their exit code."""
    try:
        root(standalone_mode=False)
    except click.exceptions.Abort:
        error_console.print("interrupted; the same command goes on from here")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (LiversegError, OSError) as raised:
        ours = as_ours(raised)
        error_console.print("error:", style="bold red", end=" ")
        error_console.print(str(ours), soft_wrap=True)
        sys.exit(ours.exit_code)

"""The commands, and what their errors become.

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
    pipeline,
):  # fmt: skip
    root.add_command(command)


def run() -> None:
    """Run the command of sys.argv; our own errors become one line and their exit code."""
    try:
        root(standalone_mode=False)
    except click.exceptions.Abort:
        error_console.print("interrupted; the same command continues from here")
        sys.exit(ExitCode.CANCELLED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (LiversegError, OSError) as raised:
        ours = as_ours(raised)
        error_console.print("error:", style="bold red", end=" ")
        error_console.print(str(ours), soft_wrap=True)
        sys.exit(ours.exit_code)

"""The command that makes the report, and how results are shown."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from liverseg.cli.console import console, print_table
from liverseg.cli.options import example, store_option, study_option
from liverseg.steps.results import result_keys
from liverseg.storage.folder import FolderStore
from liverseg.storage.port import LocatedStore


@click.command(epilog=example("liverseg report --store build/store --out report.html"))
@store_option
@study_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page (.html); it needs nothing beside it.",
)
def report(store: str, study: str | None, out: Path) -> None:
    """Write one self-contained HTML page: data, race, results, slices with contours, costs.

    Beside it, in the folder <name>-files, are its tables and figures. All files are written, or
    none.
    """
    from liverseg.steps.outputs import Output, check_outputs, check_outside
    from liverseg.steps.report import report as step
    from liverseg.steps.study.study_choice import latest_study
    from liverseg.storage.open import open_store

    opened = open_store(store)
    outputs = [Output("--out", out, (".html", ".htm"))]
    # One name stands for all that are written beside the page.
    outputs.append(Output("--out", out.parent / f"{out.stem}-files" / "table-1.csv"))
    check_outside(opened, outputs)
    check_outputs(outputs, [])
    path = step.run(opened, study or latest_study(opened), out)
    console.print(f"report: {path}", soft_wrap=True)


def show_dice(evaluation: Mapping[str, Any]) -> None:
    """Print the mean test Dice of every arm."""
    names = {
        "multi": "winner of the race (A1)",
        "baseline": "baseline: one training without rungs (A2)",
        "threshold": "best single threshold inside the liver",
    }
    rows = [(names[arm], f"{v['mean_dice']:.3f}") for arm, v in evaluation["arms"].items()]
    of = "synthetic test cases" if evaluation["synthetic"] else "test cases"
    print_table(f"Mean Dice over {of} and raters", ("method", "Dice"), rows)


def report_path(store: LocatedStore, study: str) -> Path:
    """Return where a browser finds the report; out of a bucket it is brought here first."""
    return _path(store, result_keys.report_page_key(study))


def metrics_path(store: LocatedStore, study: str) -> Path:
    """Write what a study has cost, as Prometheus reads it, beside its report; return where."""
    from liverseg.telemetry.study_collector import openmetrics

    key = result_keys.metrics_key(study)
    store.put(key, openmetrics(store, study))
    return _path(store, key)


def _path(store: LocatedStore, key: str) -> Path:
    if isinstance(store, FolderStore):
        return store.root / key
    path = store.work / key
    store.get_file(key, path)
    return path

"""The command that evaluates: files from anywhere, or what a study has segmented."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from liverseg.cli.console import console, print_json, print_table, progress_bar
from liverseg.cli.options import example, json_option, label_option, study_option
from liverseg.cli.results.results import show_dice
from liverseg.errors import SettingsError
from liverseg.exit_codes import ExitCode
from liverseg.platform.cores import available_cores
from liverseg.storage.files import write_files

_NAME = re.compile(r"[A-Za-z0-9_]+")
_out_file = click.Path(path_type=Path)


@click.command(
    epilog=example(
        "liverseg evaluate --reference rater1.nii.gz --reference rater2.nii.gz \\",
        "         --prediction mine.nii.gz",
        "liverseg evaluate --cases data --reference R1=tumor_R1.nii.gz \\",
        "         --reference R3=tumor_R3.nii.gz --prediction R2=tumor_R2.nii.gz --html table.html",
        "liverseg evaluate --reference 'labelsTs/{case}.nii.gz' \\",
        "         --prediction 'results/{case}.nii.gz' --lesion-label 2 --csv all.csv",
        "liverseg evaluate --store build/store --json",
    )
)
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="[NAME=]FILE",
    help="A rater's lesion mask, once per rater [names: R1, R2, ...].",
)
@click.option(
    "--prediction",
    "predictions",
    multiple=True,
    metavar="[NAME=]FILE",
    help="An algorithm's, once per algorithm [names: A1, A2, ...].",
)
@click.option(
    "--cases",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Evaluate every folder in it as a case. FILEs are then paths below the case's folder; "
    "'{case}' in a FILE stands for the case's name, anywhere, and works without --cases as well.",
)
@click.option(
    "--liver", metavar="FILE", help="Liver mask: lesions predicted outside of it are left out."
)
@label_option("lesion", "--label")
@label_option("liver")
@click.option(
    "--resample-prediction",
    is_flag=True,
    help="Bring a prediction on another grid to the reference's, nearest neighbour; the output "
    "says so, and how many lesion voxels lie outside the reference's grid. Without it another grid "
    "is an error.",
)
@click.option(
    "--csv",
    "csv_file",
    type=_out_file,
    help="Write a table (.csv): one row per case and algorithm.",
)
@click.option(
    "--html", "html_file", type=_out_file, help="Write a page (.html) that needs nothing else."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=None,
    help="Cases at a time [default: the cores that this process may use].",
)
@click.option(
    "--memory-mb",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="Budget for all cases at a time; fewer run at once where they would not fit.",
)
@click.option(
    "--store",
    envvar="LIVERSEG_STORE",
    show_envvar=True,
    help="Evaluate a study of this store instead of files.",
)
@study_option
@json_option
@click.pass_context
def evaluate(
    context: click.Context,
    references: tuple[str, ...],
    predictions: tuple[str, ...],
    cases: Path | None,
    liver: str | None,
    lesion_labels: tuple[int, ...],
    liver_labels: tuple[int, ...],
    resample_prediction: bool,
    csv_file: Path | None,
    html_file: Path | None,
    jobs: int | None,
    memory_mb: int,
    store: str | None,
    study: str | None,
    as_json: bool,
) -> None:
    """Compare lesion masks with every rater's: overlap, distances, lesions found, tests.

    Files from anywhere, one case or many, need --reference and --prediction. Reported are the
    measures of docs/method.md section 13, and with two algorithms or more paired tests. With
    --lesion-label, a reference that never has such a label, nor ever two, beside files that do is a
    plain mask: its one label is taken, and the output says so. --json prints what
    liverseg/schemas/evaluation-1.json describes. A case that cannot be evaluated, also one whose
    process is killed, is left out and named, and the exit code is 8. The files of --csv and --html
    are written, both or neither, after the results are printed.

    With --store and no files: a study's segmentations, beside the best single threshold; written
    to STORE/studies/ID/evaluation.json. JSON keys: study, synthetic, test_evaluations, weights,
    threshold, arms, document (what --json prints of files).
    """
    if not (references or predictions or cases):
        if store is None:
            raise SettingsError("give --reference and --prediction, or --store for a study")
        _refuse_options_of_files(context)
        _study(store, study, as_json)
        return
    if context.get_parameter_source("store") == ParameterSource.COMMANDLINE or study:
        raise SettingsError("--reference, --prediction and --cases are files, not a --store's")
    if not references:
        raise SettingsError("a prediction needs something to compare with: give --reference")
    if not predictions:
        raise SettingsError("there is nothing to compare with the reference: give --prediction")
    if liver_labels and liver is None:
        shown = " ".join(f"--liver-label {label}" for label in liver_labels)
        raise SettingsError(
            f"{shown}: there is no --liver whose labels these could be; give it, or leave them out"
        )
    from liverseg.steps.outputs import Output, check_outputs
    from liverseg.steps.results import case_discovery as files
    from liverseg.steps.results import evaluate_external as step

    patterns = files.Patterns(
        _named(references, "R", "--reference"), _named(predictions, "A", "--prediction"), liver
    )
    if overlap := set(patterns.raters) & set(patterns.algorithms):
        raise SettingsError(f"'{min(overlap)}' is both a reference and a prediction")
    complete, excluded = (
        files.find(patterns, cases)
        if files.names_many_cases(patterns, cases)
        else ([files.one_case(patterns)], [])
    )
    named = (("--csv", csv_file, (".csv",)), ("--html", html_file, (".html", ".htm")))
    outputs = [Output(option, path, suffixes) for option, path, suffixes in named if path]
    check_outputs(outputs, [path for case in complete for path in files.paths_of(case)])
    with progress_bar() as report:
        result = step.run(
            complete,
            excluded,
            list(patterns.raters),
            list(patterns.algorithms),
            step.Options(lesion_labels, liver_labels, resample_prediction),
            jobs or available_cores(),
            memory_mb,
            report,
        )
    if as_json:
        print_json(result)
    else:
        show(result)
    _write(result, csv_file, html_file)
    if result["excluded"]:
        sys.exit(ExitCode.CASES_EXCLUDED)


def _refuse_options_of_files(context: click.Context) -> None:
    """Raise SettingsError where a study is evaluated with options that it would pass over."""
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in ("store", "study", "as_json")
        and context.get_parameter_source(parameter.name or "") == ParameterSource.COMMANDLINE
    ]
    if given:
        raise SettingsError(
            f"{', '.join(given)} is for files: give --reference and --prediction, or leave it out "
            "to evaluate a study of --store"
        )


def show(result: Mapping[str, Any]) -> None:
    """Print the tables of an evaluation, and what was left out."""
    from liverseg.reporting import evaluation

    for table in evaluation.tables(result):
        print_table(table.title, table.columns, table.rows)
    for note in evaluation.notes(result):
        console.print(note, soft_wrap=True)


def _write(result: Mapping[str, Any], csv_file: Path | None, html_file: Path | None) -> None:
    contents = {}
    if csv_file is not None:
        from liverseg.reporting import evaluation

        contents[csv_file] = evaluation.csv_text(result).encode()
    if html_file is not None:
        from liverseg.reporting import evaluation_page

        contents[html_file] = evaluation_page.html(result).encode()
    write_files(contents)


def _study(store: str, study: str | None, as_json: bool) -> None:
    from liverseg.race.records.study import load_study
    from liverseg.steps.results import evaluate as step
    from liverseg.steps.study.study_choice import latest_study
    from liverseg.storage.open import open_store

    opened = open_store(store)
    result = step.run(opened, load_study(opened, study or latest_study(opened)))
    if as_json:
        print_json(result)
    else:
        show_dice(result)


def _named(values: tuple[str, ...], letter: str, option: str) -> dict[str, str]:
    """Return files by name; a name is what stands before the first =."""
    named: dict[str, str] = {}
    for number, value in enumerate(values, 1):
        name, equals, path = value.partition("=")
        if not equals:
            name, path = f"{letter}{number}", value
        if not _NAME.fullmatch(name) or name == "mean":
            raise SettingsError(
                f"{option} '{value}': a name is letters, digits and _, and not 'mean'"
            )
        if name in named:
            raise SettingsError(f"{option} '{value}': the name {name} is given twice")
        named[name] = path
    return named

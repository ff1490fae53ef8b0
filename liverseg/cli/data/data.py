"""Commands on data: phantom, scan, preprocess."""

from pathlib import Path

import click

from liverseg.cli.console import console, print_json, print_table, progress_bar
from liverseg.cli.data.findings import findings_json, show_findings
from liverseg.cli.options import (
    chosen_settings,
    data_option,
    example,
    json_option,
    settings_options,
    split_option,
    store_option,
)


@click.command(epilog=example("liverseg phantom build/phantom --cases 16"))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--cases", type=int, default=16, show_default=True, help="How many.")
@click.option("--seed", type=int, default=0, show_default=True, help="Other cases.")
def phantom(out: Path, cases: int, seed: int) -> None:
    """Write synthetic cases into the folder OUT, to try everything without patients.

    Miniature abdomens with liver, vessels, lesions of several sizes and contrasts, and three
    raters who disagree; one case has no lesion, one lacks a rater. `split.json` beside the cases
    says which of them train, validate and test. They are called synthetic wherever they show.
    """
    from liverseg.steps.data import phantom as step

    with progress_bar() as report:
        folders = step.run(out, cases, seed, report)
    console.print(f"{len(folders)} synthetic cases in {out}", soft_wrap=True)


@click.command(epilog=example("liverseg scan data --store build/store --split data/split.json"))
@click.argument("data")
@store_option
@settings_options
@split_option
@json_option
def scan(
    data: str,
    store: str,
    preset_name: str,
    settings_text: str,
    assignments: tuple[str, ...],
    split: str | None,
    as_json: bool,
) -> None:
    """Check all of DATA and list everything that is wrong, not just the first.

    DATA is a folder, or the URL that `liverseg dataset push` has printed. It holds one
    folder per case with image, liver, tumor_R1 .. tumor_Rn (.nii.gz, .nii, .nrrd, .mha) and
    optionally case.json. Writes STORE/datasets/DIGEST.json, the list of cases with their hashes
    and roles, if all is well. Exit code 3 if a case cannot be used.

    Warnings are about what is unlikely, such as a liver of 200 ml, or is not used; they refuse
    nothing. Their bounds are the settings plausibility.*.

    JSON keys: dataset (the digest, or null), cases (case, role, raters), problems (case, file,
    problem), warnings (case, file, warning).
    """
    from liverseg.steps.data import scan as step
    from liverseg.steps.data.transfer import local_file, local_folder
    from liverseg.steps.outputs import check_apart
    from liverseg.storage.open import open_store

    settings, opened = chosen_settings(preset_name, settings_text, assignments), open_store(store)
    check_apart(opened, data)
    folder, lists = local_folder(data), local_file(split) if split else None
    with progress_bar() as report:
        result = step.run(folder, opened, settings, lists, report)
    digest = result.dataset.digest if result.dataset else None
    if as_json:
        cases = [{"case": c.name, "role": c.role, "raters": c.raters} for c in result.cases]
        listed = findings_json(result.findings, result.warnings)
        print_json({"dataset": digest, "cases": cases} | listed)
    else:
        print_table(
            f"{len(result.cases)} cases in {data}",
            ("case", "role", "voxels (z, y, x)", "mm (z, y, x)", "raters", "lesions ml", ""),
            [
                (
                    case.name,
                    case.role or "-",
                    "x".join(map(str, case.shape)) if case.shape else "-",
                    " ".join(f"{s:.3g}" for s in case.spacing_mm) if case.spacing_mm else "-",
                    " ".join(case.raters),
                    " ".join(f"{v:.1f}" for v in case.lesion_ml.values()),
                    "synthetic" if case.synthetic else "",
                )
                for case in result.cases
            ],
        )
        show_findings(result.findings, result.warnings)
    if result.dataset is None:
        raise result.error(folder)
    if not as_json:
        console.print(f"data set {digest}", soft_wrap=True)


@click.command(epilog=example("liverseg preprocess --data data --store build/store --preset small"))
@data_option
@store_option
@settings_options
@split_option
def preprocess(
    data: str,
    store: str,
    preset_name: str,
    settings_text: str,
    assignments: tuple[str, ...],
    split: str | None,
) -> None:
    """Check all of DATA as `scan` does and bring every case to the network's grid, in one pass.

    In-plane resampling to 1 mm, 2nd and 98th percentile inside the liver to 0 and 1. Writes
    STORE/cases/HASH/, HASH being that of the case's files, and STORE/datasets/DIGEST.json as `scan`
    does. A case that is already there is not prepared again, so one added case prepares one; and
    where a case cannot be used (exit code 3), the others stay prepared.
    """
    from liverseg.steps.data import scan as step
    from liverseg.steps.data.transfer import local_file, local_folder
    from liverseg.steps.outputs import check_apart
    from liverseg.storage.open import open_store

    settings, opened = chosen_settings(preset_name, settings_text, assignments), open_store(store)
    check_apart(opened, data)
    folder, lists = local_folder(data), local_file(split) if split else None
    with progress_bar() as report:
        result = step.run(folder, opened, settings, lists, report, keep_prepared=True)
    show_findings(result.findings, result.warnings)
    if result.dataset is None:
        raise result.error(folder)
    usable = [case for case in result.cases if not case.problems]
    reused = sum(case.prepared for case in usable)
    console.print(f"{len(usable) - reused} cases prepared, {reused} reused")
    console.print(f"data set {result.dataset.digest}", soft_wrap=True)

"""The pipeline's commands; here the one that runs it on this machine."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from liverseg.cli.console import console, print_json
from liverseg.cli.kfp import compile_, schedule, submit, upload
from liverseg.cli.options import (
    billing_options,
    budget_option,
    data_option,
    example,
    gpus_option,
    json_option,
    overrides,
    settings_options,
    split_option,
    store_option,
    take_over_option,
)
from liverseg.cli.race.status import show
from liverseg.cli.results.results import metrics_path, report_path, show_dice
from liverseg.settings import from_mapping, preset
from liverseg.storage.port import ObjectStore


@click.group()
def pipeline() -> None:
    """The whole study as a KFP pipeline."""


for command in (compile_, upload, submit, schedule):
    pipeline.add_command(command)


@pipeline.command(
    epilog=example(
        "liverseg pipeline run --data build/phantom --split build/phantom/split.json \\",
        "         --preset demo --store build/store",
        "liverseg pipeline run --data mine --preset small --store build/mine --set race.seeds=8",
    )
)
@data_option
@store_option
@settings_options
@split_option
@gpus_option()
@budget_option
@billing_options
@click.option(
    "--compare-baseline/--no-compare-baseline", default=True, help="Also train the baseline."
)
@take_over_option
@json_option
def run(
    data: str,
    store: str,
    preset_name: str,
    settings_text: str,
    assignments: tuple[str, ...],
    split: str | None,
    gpus: int,
    max_gpu_hours: float | None,
    user: str,
    gpu_price: float,
    currency: str,
    compare_baseline: bool,
    take_over: bool,
    as_json: bool,
) -> None:
    """Run the pipeline on this machine: preprocess, scan, race, predict, evaluate, report.

    Everything goes into the store; the report is STORE/studies/ID/report.html, the winner's
    network STORE/studies/ID/model, and what it has cost STORE/studies/ID/metrics.prom.
    STORE/.local/kfp/log.txt has every line of every task; for a store s3://... it is kfp/log.txt
    below ~/.cache/liverseg/work (or $XDG_CACHE_HOME).
    Killed at any point and started again with the same command it continues, and ends with the same
    weights. A second run on unchanged data prepares and trains nothing.

    JSON: what `liverseg study status --json` gives, and `evaluation`, `report` and `metrics` (their
    paths), `prepared`, `reused` and `trained`; the log then goes to standard error.
    """
    from liverseg.steps.outputs import check_apart
    from liverseg.steps.race.billing import Billing
    from liverseg.steps.race.race import status
    from liverseg.steps.results.evaluate import load_evaluation
    from liverseg.steps.study.study_choice import latest_study
    from liverseg.storage.open import open_store
    from pipelines.local import run_here

    changed = overrides(settings_text, assignments)
    chosen = from_mapping(changed, preset(preset_name))  # a wrong setting is better told now
    Billing.chosen(user, gpu_price, currency)
    opened = open_store(store)
    check_apart(opened, data)
    before = frozenset(opened.keys("cases/") + opened.keys("studies/"))
    arguments = {
        "data": absolute(data),
        "store": opened.url,
        "preset": preset_name,
        "split": absolute(split) if split else "",
        "settings": json.dumps(changed),
        "gpus": gpus,
        "max_gpu_hours": max_gpu_hours or 0.0,
        "compare_baseline": compare_baseline,
        "take_over": take_over,
        "user": user,
        "gpu_price": gpu_price,
        "currency": currency,
    }
    run_here(arguments, opened.work / "kfp", sys.stderr if as_json else None)
    # Another run may work on another study in the same store.
    study_status = status(opened, latest_study(opened, chosen))
    evaluation = load_evaluation(opened, study_status["study"])
    report = report_path(opened, study_status["study"])
    metrics = metrics_path(opened, study_status["study"])
    work = work_done(opened, study_status["study"], before)
    if as_json:
        paths = {"report": str(report), "metrics": str(metrics)}
        print_json(study_status | {"evaluation": evaluation} | paths | work)
        return
    console.print()
    show(study_status)
    show_dice(evaluation)
    console.print(f"report: {report}", soft_wrap=True)
    console.print(
        f"GPU-hours: {metrics}; `liverseg metrics --store {store}` serves them to Prometheus",
        soft_wrap=True,
    )
    for line in work_lines(work):
        console.print(line)


def absolute(location: str) -> str:
    """Return a path as other processes find it; a URL as it is."""
    return location if "://" in location else str(Path(location).absolute())


def work_lines(work: Mapping[str, int]) -> list[str]:
    """Say what a run had to compute."""
    prepared, reused, trained = work["prepared"], work["reused"], work["trained"]
    return [
        f"cases preprocessed: {prepared}, reused: {reused}"
        if prepared
        else f"nothing to preprocess: {reused} cases reused",
        f"trainings from rung to rung: {trained}"
        if trained
        else "nothing to train: everything is already trained",
    ]


def work_done(store: ObjectStore, study: str, before: frozenset[str]) -> dict[str, int]:
    """Return what a run had to compute: what lies in the store beyond the keys of `before`."""
    from liverseg.race.records import facts
    from liverseg.race.records.study import load_study
    from liverseg.steps.data.cases import case_prefix

    cases = load_study(store, study).dataset.cases
    reused = sum(case_prefix(case.key) + "manifest.json" in before for case in cases)
    recorded = store.keys(facts.rungs_prefix(study))
    reports = frozenset(key for key in recorded if "/reports/" in key)
    prepared, trained = len(cases) - reused, len(reports - before)
    return {"prepared": prepared, "reused": reused, "trained": trained}

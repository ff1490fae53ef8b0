"""The command that says what a race would cost before it is run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from liverseg.cli.console import console, print_json, print_table, progress_bar
from liverseg.cli.options import (
    chosen_settings,
    example,
    gpus_option,
    is_json_object,
    json_option,
    settings_options,
    study_option,
)

PAPER_SECONDS = 0.763


@click.command(
    epilog=example(
        "liverseg study plan --seeds 16 --gpus 4 --seconds-per-iteration 0.763 --json",
        "liverseg study plan --gpus 8 --pod-overhead 120 --preemptions 0.05 --price 2.5 \\",
        "           --gantt race.svg",
        "liverseg study plan --calibrate build/store --preset small --gpus 2",
    )
)
@click.option("--seeds", type=int, help="Trainings at the start [default: race.seeds, 16].")
@gpus_option(4)
@click.option(
    "--seconds-per-iteration",
    type=click.FloatRange(min=0, min_open=True),
    help=f"Of one trainer [default: {PAPER_SECONDS}, the paper's, on a GPU of 2021].",
)
@click.option(
    "--pod-overhead",
    type=click.FloatRange(min=0),
    help="Seconds from a job's start to its first iteration [default: 0].",
)
@click.option(
    "--preemptions",
    type=click.FloatRange(min=0),
    help="How often a node is taken away per GPU-hour; work since the last checkpoint is done "
    "again [default: 0].",
)
@click.option("--price", type=click.FloatRange(min=0), default=0.0, help="Of one GPU-hour.")
@click.option("--calibrate", metavar="STORE", help="Take the three rates from a study run there.")
@study_option
@click.option("--gantt", type=click.Path(path_type=Path), help="Draw the simulated race (.svg).")
@settings_options
@json_option
def plan(
    seeds: int | None,
    gpus: int,
    seconds_per_iteration: float | None,
    pod_overhead: float | None,
    preemptions: float | None,
    price: float,
    calibrate: str | None,
    study: str | None,
    gantt: Path | None,
    preset_name: str,
    settings_text: str,
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what a race would cost before it is run: time, GPU-hours and money for 1 to N GPUs.

    The forecast is a race in virtual time, by the real controller: seeds whose promotion is
    guaranteed continue early, jobs take time to start, nodes are preempted. It is shown with the
    lower bound of a race that waits at every rung for its last seed.

    JSON keys: iterations, gpu_seconds, makespan_seconds (the lower bound on --gpus),
    longest_chain_iterations, rungs (iterations, seeds), unpruned_iterations, saved_iterations,
    load, forecast (gpus, lower_bound_seconds, makespan_seconds, makespan_range_seconds,
    gpu_seconds, cost); with preemptions the middle one of nine races, and the range of all.
    """
    from liverseg.simulation.forecast import Load
    from liverseg.steps.outputs import Output, check_outputs, check_outside
    from liverseg.steps.study import plan as step
    from liverseg.storage.open import open_store

    settings = chosen_settings(preset_name, settings_text, assignments)
    calibration = open_store(calibrate) if calibrate else None
    if gantt is not None:
        outputs = [Output("--gantt", gantt, (".svg",))]
        check_outputs(outputs, [] if is_json_object(settings_text) else [Path(settings_text)])
        check_outside(calibration, outputs)
    seeds = settings.race.seeds if seeds is None else seeds
    load = step.load_of(calibration, study) if calibration else Load(PAPER_SECONDS)
    given = {
        "seconds_per_iteration": seconds_per_iteration,
        "pod_overhead_seconds": pod_overhead,
        "preemptions_per_gpu_hour": preemptions,
    }
    load = replace(load, **{name: value for name, value in given.items() if value is not None})
    with progress_bar() as report:
        planned = step.run(settings, seeds, gpus, load, price, report)
    if as_json:
        print_json(planned.values)
    else:
        _show(planned.values, seeds, price)
    if gantt is not None:
        step.draw(planned.race, seeds, gantt)
        if not as_json:
            console.print(f"picture of the simulated race: {gantt}", soft_wrap=True)


def _show(cost: dict[str, Any], seeds: int, price: float) -> None:
    rungs = [(f"{r['iterations']:,}", r["seeds"]) for r in cost["rungs"]]
    print_table(f"{seeds} seeds", ("iterations", "seeds"), rungs)
    columns = ["GPUs", "lower bound, h", "forecast, h", "GPU-hours"]
    rows = []
    for row in cost["forecast"]:
        low, high = (hours(seconds) for seconds in row["makespan_range_seconds"])
        forecast = hours(row["makespan_seconds"]) + (f" ({low} to {high})" if low != high else "")
        cells = [row["gpus"], hours(row["lower_bound_seconds"]), forecast]
        cells.append(f"{row['gpu_seconds'] / 3600:.1f}")
        rows.append([*cells, f"{row['cost']:,.2f}"] if price else cells)
    print_table("Forecast, simulated", [*columns, "price"] if price else columns, rows)
    share = cost["saved_iterations"] / cost["unpruned_iterations"]
    console.print(
        f"{cost['iterations']:,} iterations, {hours(cost['gpu_seconds'])} GPU-hours without "
        f"overhead; pruning saves {cost['saved_iterations']:,} of "
        f"{cost['unpruned_iterations']:,} iterations ({share:.0%})",
        soft_wrap=True,
    )


def hours(seconds: float) -> str:
    """Return seconds as hours and minutes, such as 21:11."""
    minutes = int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02d}"

"""Commands on a study: run the race, say where it stands, say what one would cost."""

import click

from liverseg.cli.console import console, print_json, print_table, shown_log
from liverseg.cli.control import resume, stop
from liverseg.cli.keep import extend, prune_checkpoints
from liverseg.cli.options import (
    budget_option,
    chosen_settings,
    example,
    gpus_option,
    json_option,
    settings_options,
    store_option,
)
from liverseg.cli.replay import replay
from liverseg.cli.status import show, status
from liverseg.errors import SettingsError


@click.group()
def study() -> None:
    """One race: run it, look at it, plan it."""


study.add_command(replay)
study.add_command(extend)
study.add_command(prune_checkpoints)
study.add_command(resume)
study.add_command(status)
study.add_command(stop)


@study.command(
    epilog=example(
        "liverseg study run --store build/store --dataset DIGEST --preset small --gpus 2"
    )
)
@store_option
@click.option("--dataset", help="Digest that `liverseg scan` printed: open a study on it.")
@click.option("--study", "study_id", help="Id of a study that is open already, by `extend` too.")
@settings_options
@gpus_option()
@budget_option
@click.option("--compare-single/--no-compare-single", default=True, help="Also train A2.")
@json_option
def run(
    store: str,
    dataset: str | None,
    study_id: str | None,
    preset_name: str,
    settings_text: str,
    assignments: tuple[str, ...],
    gpus: int,
    max_gpu_hours: float | None,
    compare_single: bool,
    as_json: bool,
) -> None:
    """Race the seeds of a scanned and preprocessed data set to one.

    Started again, it goes on where it was: nothing is trained twice but what was lost since the
    last checkpoint. Writes STORE/studies/ID, with the winner's network in `model`.

    JSON: what `liverseg study status --json` gives, and `started`, how many trainers were.
    """
    from liverseg.race.plan import Capacity
    from liverseg.race.study import load_study, open_study
    from liverseg.steps import tasks
    from liverseg.steps.cases import load_dataset
    from liverseg.storage.open import open_store

    opened = open_store(store)
    if (dataset is None) == (study_id is None):
        raise SettingsError("give either --dataset, to open a study, or --study, to go on with one")
    if study_id is not None:
        opened_study = load_study(opened, study_id)
    elif dataset is not None:
        settings = chosen_settings(preset_name, settings_text, assignments)
        opened_study = open_study(opened, settings, load_dataset(opened, dataset))
    capacity = Capacity(gpus, compare_single, max_gpu_hours)
    with shown_log(as_json):
        found = tasks.race_to(opened, opened_study, "end", capacity)
        if compare_single:
            started = found["started"]
            found = tasks.race_to(opened, opened_study, "single", capacity)
            found["started"] += started
    if as_json:
        print_json(found)
    else:
        show(found)


@study.command(
    epilog=example("liverseg study plan --seeds 16 --gpus 4 --seconds-per-iteration 0.763 --json")
)
@click.option("--seeds", type=int, help="Trainings at the start [default: race.seeds, 16].")
@gpus_option(4)
@click.option(
    "--seconds-per-iteration",
    type=float,
    default=0.763,
    show_default=True,
    help="The paper's, on a GPU of 2021.",
)
@settings_options
@json_option
def plan(
    seeds: int | None,
    gpus: int,
    seconds_per_iteration: float,
    preset_name: str,
    settings_text: str,
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what a race would cost before it is run.

    JSON keys: iterations, gpu_seconds, makespan_seconds (of the longest chain, rung by rung),
    longest_chain_iterations, rungs (iterations, seeds).
    """
    from liverseg.steps import race

    settings = chosen_settings(preset_name, settings_text, assignments)
    seeds = settings.race.seeds if seeds is None else seeds
    cost = race.plan(seeds, gpus, seconds_per_iteration, settings.race)
    if as_json:
        print_json(cost)
        return
    rungs = [(r["iterations"], r["seeds"]) for r in cost["rungs"]]
    print_table(f"{seeds} seeds on {gpus} GPUs", ("iterations", "seeds"), rungs)
    console.print(
        f"{cost['iterations']:,} iterations, {hours(cost['gpu_seconds'])} GPU-hours, done after "
        f"{hours(cost['makespan_seconds'])} h"
    )


def hours(seconds: float) -> str:
    """Return seconds as hours and minutes, such as 21:11."""
    minutes = int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02d}"

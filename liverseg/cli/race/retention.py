"""Commands on what a study leaves behind: make it larger, or delete what it no longer needs."""

import click

from liverseg.cli.console import console, print_json, print_table
from liverseg.cli.options import example, json_option, store_option, study_option


@click.command(epilog=example("liverseg study extend --store build/store --seeds 32"))
@store_option
@study_option
@click.option("--seeds", type=int, help="Trainings at the start, more than before.")
@click.option("--max-iterations", type=int, help="Iterations at the last rung, more than before.")
@json_option
def extend(
    store: str, study: str | None, seeds: int | None, max_iterations: int | None, as_json: bool
) -> None:
    """Open the study that has more seeds or longer trainings, with what this one has trained.

    It decides what it would have decided from the start, and nothing is trained again whose
    checkpoint exists; what has to be is said here, before anything is started. The study itself
    stays as it is. Then `liverseg study run --study ID` races the larger one.

    JSON keys: study (the new one), parent, new_seeds, reports (taken over), retrained (seed,
    reached, from).
    """
    from liverseg.race.records.study import latest_study
    from liverseg.steps.race import extend as step
    from liverseg.storage.open import open_store

    opened = open_store(store)
    found = step.run(opened, study or latest_study(opened), seeds, max_iterations)
    if as_json:
        print_json(found)
        return
    console.print(
        f"study {found['study']} extends {found['parent']}: {found['new_seeds']} new seeds, "
        f"{found['reports']} reports taken over",
        soft_wrap=True,
    )
    if found["retrained"]:
        rows = [(r["seed"], f"{r['reached']:,}", f"{r['from']:,}") for r in found["retrained"]]
        columns = ("seed", "reported at", "checkpoint left at")
        print_table("Trained again, if they are promoted now", columns, rows)


@click.command(
    "prune-checkpoints",
    epilog=example("liverseg study prune-checkpoints --store build/store --dry-run"),
)
@store_option
@study_option
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def prune_checkpoints(store: str, study: str | None, dry_run: bool, as_json: bool) -> None:
    """Delete the checkpoints that a study no longer needs, also while it runs.

    Kept are the winner's last with its best weights, those that the reports of the last three
    rungs name, and the newest of every seed that is still in the race. What goes was made useless
    by a decision that is recorded; a study that is extended later trains those seeds again.

    JSON keys: study, deleted (keys), kept (how many), bytes.
    """
    from liverseg.race.records.study import latest_study, load_study
    from liverseg.steps.race import checkpoints as step
    from liverseg.storage.open import open_store

    opened = open_store(store)
    found = step.prune(opened, load_study(opened, study or latest_study(opened)), dry_run)
    if as_json:
        print_json(found)
        return
    verb = "would go" if dry_run else "deleted"
    console.print(
        f"study {found['study']}: {len(found['deleted'])} checkpoints {verb}, "
        f"{found['bytes'] / 2**20:.1f} MB; {found['kept']} kept",
        soft_wrap=True,
    )

"""Commands on what a study leaves behind: make it larger, prune its checkpoints, delete it."""

import click

from liverseg.cli.console import console, print_json, print_table, progress_bar
from liverseg.cli.options import (
    backend_options,
    changed_study_option,
    example,
    json_option,
    store_option,
    take_over_option,
)


@click.command(epilog=example("liverseg study extend --store build/store --seeds 32"))
@store_option
@changed_study_option
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
    from liverseg.steps.study import extend as step
    from liverseg.steps.study.study_choice import study_to_change
    from liverseg.storage.open import open_store

    opened = open_store(store)
    extension = step.run(opened, study_to_change(opened, study), seeds, max_iterations)
    if as_json:
        print_json(extension)
        return
    console.print(
        f"study {extension['study']} extends {extension['parent']}: "
        f"{extension['new_seeds']} new seeds, {extension['reports']} reports taken over",
        soft_wrap=True,
    )
    if extension["retrained"]:
        rows = [(r["seed"], f"{r['reached']:,}", f"{r['from']:,}") for r in extension["retrained"]]
        columns = ("seed", "reported at", "checkpoint left at")
        print_table("Trained again, if they are promoted now", columns, rows)


@click.command(
    "prune-checkpoints",
    epilog=example("liverseg study prune-checkpoints --store build/store --dry-run"),
)
@store_option
@changed_study_option
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def prune_checkpoints(store: str, study: str | None, dry_run: bool, as_json: bool) -> None:
    """Delete the checkpoints that a study no longer needs, also while it runs.

    Kept are the winner's last with its best weights, those that the reports of the last three
    rungs name, and the newest of every seed that is still in the race. What goes was made useless
    by a decision that is recorded; a study that is extended later trains those seeds again.

    JSON keys: study, deleted (keys), kept (how many), bytes.
    """
    from liverseg.race.records.study import load_study
    from liverseg.steps.study import checkpoints as step
    from liverseg.steps.study.study_choice import study_to_change
    from liverseg.storage.open import open_store

    opened = open_store(store)
    pruned = step.prune(opened, load_study(opened, study_to_change(opened, study)), dry_run)
    if as_json:
        print_json(pruned)
        return
    verb = "would go" if dry_run else "deleted"
    console.print(
        f"study {pruned['study']}: {len(pruned['deleted'])} checkpoints {verb}, "
        f"{pruned['bytes'] / 2**20:.1f} MB; {pruned['kept']} kept",
        soft_wrap=True,
    )


@click.command(
    epilog=example(
        "liverseg study delete --store build/store --study 0123456789ab",
        "liverseg study delete --store s3://liverseg/store --study 0123456789ab --yes \\",
        "         --executor kubernetes",
    )
)
@store_option
@changed_study_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@take_over_option
@backend_options
@json_option
def delete(
    store: str,
    study: str | None,
    yes: bool,
    take_over: bool,
    executor: str,
    trainer_image: str,
    pods: str,
    as_json: bool,
) -> None:
    """Stop a study and delete it: its trainers' jobs, checkpoints, reports and networks.

    Its controller and its trainers end first; give --executor and --pods as for `study run`, so
    that they are found. Prepared cases and predictions stay: other studies may use them. If
    interrupted, it leaves the study stopped, and the same command deletes the rest.

    JSON keys: study, jobs, keys (how many were deleted), bytes, kept (prefixes).
    """
    from liverseg.race.records.study import load_study
    from liverseg.steps.race.trainer_backend import TrainerBackend
    from liverseg.steps.study import delete as step
    from liverseg.steps.study.study_choice import study_to_change
    from liverseg.storage.open import open_store

    backend = TrainerBackend.chosen(executor, trainer_image, pods, starts=False)
    opened = open_store(store)
    loaded = load_study(opened, study_to_change(opened, study))
    question = f"Delete study {loaded.id} with its checkpoints, reports and networks?"
    if not yes and not click.confirm(question, err=True):
        raise click.Abort
    runs_trainers, poll_seconds = backend.executor(opened, loaded)
    with progress_bar() as report:
        deleted = step.run(
            opened,
            runs_trainers,
            loaded,
            take_over=take_over,
            poll_seconds=poll_seconds,
            waits=lambda held: click.echo(f"waiting until {held.owner} has stopped", err=True),
            progress=report,
        )
    if as_json:
        print_json(deleted)
        return
    console.print(
        f"study {deleted['study']} is deleted: {deleted['keys']} files, {deleted['jobs']} jobs, "
        f"{deleted['bytes'] / 2**20:.1f} MB of checkpoints and networks freed",
        soft_wrap=True,
    )
    if deleted["kept"]:
        names = ", ".join(deleted["kept"])
        console.print(f"kept, since other studies may use them: {names}", soft_wrap=True)

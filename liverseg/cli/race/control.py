"""Commands of whoever runs the cluster: stop a study, and let it go on."""

import time

import click

from liverseg.cli.console import console
from liverseg.cli.options import changed_study_option, example, store_option


@click.command(epilog=example("liverseg study stop --store build/store"))
@store_option
@changed_study_option
def stop(store: str, study: str | None) -> None:
    """Stop a study: its trainers save and end, and nothing is started until `resume`.

    Its controller notices within seconds, even on another machine. Nothing is lost: the race
    continues from the checkpoints and ends with the same winner.
    """
    _set(store, study, True)


@click.command(epilog=example("liverseg study resume --store build/store"))
@store_option
@changed_study_option
def resume(store: str, study: str | None) -> None:
    """Undo a stop. Then start the run again with the same command."""
    _set(store, study, False)


def _set(store: str, study: str | None, stopped: bool) -> None:
    from liverseg.race.records import facts
    from liverseg.race.records.study import load_study
    from liverseg.steps.study.study_choice import study_to_change
    from liverseg.storage.open import open_store

    opened = open_store(store)
    loaded = load_study(opened, study_to_change(opened, study))
    changed = facts.set_stopped(opened, loaded.id, stopped, time.time())
    if changed:
        state = "is stopped" if stopped else "is resumed"
    else:
        state = "was already stopped" if stopped else "was not stopped"
    console.print(f"study {loaded.id} {state}")

"""The command that says where a race stands: once, or again and again until it is over."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from liverseg.cli.console import console, print_json, table_of
from liverseg.cli.options import example, json_option, store_option, study_option

WATCH_SECONDS = 2.0
Status = Mapping[str, Any]
_OVER = ("pruned", "failed")


@click.command(
    epilog=example(
        "liverseg study status --store build/store --watch",
        "liverseg study status --store build/store --json",
    )
)
@store_option
@study_option
@click.option("--watch", is_flag=True, help="Update every 2 s until the race has ended.")
@click.option(
    "--seeds",
    "all_seeds",
    is_flag=True,
    help="List every seed, even after the race has ended.",
)
@json_option
def status(store: str, study: str | None, watch: bool, all_seeds: bool, as_json: bool) -> None:
    """Show a study's progress: rungs, seeds, how long it will take, the winner.

    A seed is waiting, training, paused (at its rung, until the others report), promoted (and not
    yet started), pruned, failed or the winner. Where the output is no terminal, --watch prints
    whenever something has changed.

    JSON keys: study; rungs (iterations, seeds, promoted, ...); winner (seed, jaccard, sha256) or
    null; baseline or null; ledger; seeds (seed, rung, state, jaccard, iteration, target,
    iterations_per_second, job, device, remaining_seconds, waits_for); remaining_seconds of the
    race; heard, unix time of the controller's last heartbeat; controller, who runs the study, or
    null; state (not started, running, not running, ended, ...).
    """
    from liverseg.steps.race import race
    from liverseg.steps.study.study_choice import latest_study
    from liverseg.storage.open import open_store

    opened = race.caching(open_store(store))
    chosen = study or latest_study(opened)

    def look() -> Status:
        return race.status(opened, chosen)

    def tell(study_status: Status) -> None:
        if as_json:
            print_json(study_status)
        else:
            show(study_status, all_seeds)

    if not watch:
        tell(look())
    elif as_json or not console.is_terminal:
        follow(look, tell)
    else:
        draw(look, console)
        tell(look())


def follow(
    look: Callable[[], Status],
    tell: Callable[[Status], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Tell what `look` finds whenever something but the time has changed, until the end."""
    before = None
    while True:
        study_status = look()
        facts = [
            {k: v for k, v in s.items() if k != "remaining_seconds"} for s in study_status["seeds"]
        ]
        if facts != before:
            tell(study_status)
            before = facts
        if study_status["winner"] is not None:
            return
        sleep(WATCH_SECONDS)


def draw(
    look: Callable[[], Status],
    screen: Console,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Draw what `look` finds over what was there, until the race is over; then take it away."""
    with Live(console=screen, auto_refresh=False, transient=True) as live:
        while (study_status := look())["winner"] is None:
            live.update(_drawing(study_status), refresh=True)
            sleep(WATCH_SECONDS)


def show(study_status: Status, all_seeds: bool = False) -> None:
    """Print rungs, seeds where the race is running or `all_seeds` are asked for, and the winner."""
    console.print(_rungs(study_status))
    if all_seeds or study_status["winner"] is None:
        console.print(_seeds(study_status["seeds"]))
        for line in _waits(study_status["seeds"]):
            console.print(Text(line))
    # A hash must come out whole and on one line however narrow the screen is.
    console.print(Text(_summary(study_status)), soft_wrap=True)


def _drawing(study_status: Status) -> RenderableType:
    """What matters most comes first, since a small screen cuts off what does not fit below."""
    ahead = sorted(
        study_status["seeds"], key=lambda s: (s["state"] in _OVER, -s["rung"], s["seed"])
    )
    summary = Text(f"{_summary(study_status)}; Ctrl-C ends this display, not the race")
    waits = Text("\n".join(_waits(ahead)))
    return Group(summary, _seeds(ahead), waits, _rungs(study_status))


def _rungs(study_status: Status) -> RenderableType:
    rows = [
        (
            number,
            f"{rung['iterations']:,}",
            len(rung["seeds"]),
            " ".join(map(str, rung["promoted"])) or "-",
            _standing(rung),
        )
        for number, rung in enumerate(study_status["rungs"])
    ]
    columns = ("rung", "iterations", "seeds", "promoted, best first", "")
    return table_of(f"Study {study_status['study']}", columns, rows)


def _standing(rung: Mapping[str, Any]) -> str:
    if rung["decided"]:
        return "decided"
    if not rung["seeds"]:
        return "not reached"
    waiting = len(rung["waiting"])
    return "1 has not reported" if waiting == 1 else f"{waiting} have not reported"


def _seeds(seeds: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows = []
    for seed in seeds:
        rate, left = seed["iterations_per_second"], seed["remaining_seconds"]
        training = seed["state"] == "training" and rate is not None
        rows.append(
            (
                seed["seed"],
                seed["rung"],
                seed["state"],
                "-" if seed["jaccard"] is None else f"{seed['jaccard']:.4f}",
                f"{seed['iteration']:,} / {seed['target']:,}",
                f"{rate:.2f}" if training else "-",
                seed["device"] or "-",
                "-" if left is None else duration(left),
            )
        )
    columns = ("seed", "rung", "state", "Jaccard", "iteration", "per s", "GPU", "to rung")
    table = table_of("", columns, rows)
    # Without lines between columns it fits 80 characters.
    table.box = box.SIMPLE_HEAD
    return table


def _waits(seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return for every reason who waits for it."""
    by_reason: dict[str, list[str]] = {}
    for seed in seeds:
        if seed["waits_for"] is not None:
            by_reason.setdefault(seed["waits_for"], []).append(str(seed["seed"]))
    return [f"seed {', '.join(who)} not running yet: {reason}" for reason, who in by_reason.items()]


def _summary(study_status: Status) -> str:
    winner = study_status["winner"]
    if winner is not None:
        return (
            f"winner: seed {winner['seed']}, validation Jaccard {winner['jaccard']:.4f}\n"
            f"SHA-256 of its weights: {winner['sha256']}"
        )
    if study_status["state"] == "resumed":
        return "no winner yet; resumed: start the run again with the same command"
    if study_status["state"].startswith("stopped"):
        return (
            f"{study_status['state']}; nothing is lost, it continues after `liverseg study resume`"
        )
    left, heard = study_status["remaining_seconds"], study_status["heard"]
    line = "no winner yet" if left is None else f"no winner yet; about {duration(left)} left"
    if study_status["state"] == "not running":
        ago = duration(time.time() - heard)
        return f"{line}; no controller runs it (last heartbeat {ago} ago): start the run again"
    if heard is None:
        return f"{line}; the race has not been started"
    return f"{line}; run by {study_status['controller']}"


def duration(seconds: float) -> str:
    """Return seconds as people say them: 45 s, 12 min, 21:11 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60}:{minutes % 60:02d} h"

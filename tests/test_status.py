"""`liverseg study status`: what is drawn while a race runs, on a terminal and elsewhere."""

import io
from typing import Any

from rich.console import Console

from liverseg.cli.status import WATCH_SECONDS, draw, duration, follow
from liverseg.steps import race
from tests.race.rehearsal import Rehearsal


class Watched:
    """A race that goes on while somebody who looks at it sleeps."""

    def __init__(self) -> None:
        self.rehearsal = Rehearsal()
        self.store = race.remembered(self.rehearsal.store)
        self.slept: list[float] = []
        self.looks = 0

    def look(self) -> dict[str, Any]:
        self.looks += 1
        return race.status(self.store, self.rehearsal.study.id, self.rehearsal.executor.now)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) > 2:
            self.rehearsal.run(min(len(self.slept) - 3, 2))


def test_elsewhere_it_is_told_when_something_changed_and_only_then():
    watched, told = Watched(), []
    follow(watched.look, told.append, watched.sleep)
    # Never run, twice the same, then three rungs.
    assert (watched.looks, len(told)) == (6, 4)
    assert set(watched.slept) == {WATCH_SECONDS}
    assert [found["winner"] is not None for found in told] == [False, False, False, True]


def test_on_a_terminal_it_is_drawn_anew_until_the_race_is_over():
    watched, screen = Watched(), io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    draw(watched.look, console, watched.sleep)
    assert watched.looks == 6
    assert "no winner yet" in screen.getvalue()
    # What was drawn is taken away; the end is printed by whoever called.
    assert "winner: seed 3" not in screen.getvalue()


def test_durations_are_told_as_people_say_them():
    assert [duration(s) for s in (0, 45.4, 89, 720, 5400, 76_300)] == [
        "0 s", "45 s", "89 s", "12 min", "1:30 h", "21:12 h",
    ]  # fmt: skip

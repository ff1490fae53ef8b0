"""`liverseg study status`: what is drawn while a race runs, on a terminal and elsewhere."""

import dataclasses
import io
import time
from typing import Any

import pytest
from rich.console import Console

from liverseg.cli.race.status import WATCH_SECONDS, draw, duration, follow, show
from liverseg.errors import Stopped
from liverseg.race.records import facts
from liverseg.race.records.job import Attempt, job_name
from liverseg.race.records.lease import HEARTBEAT_TIMEOUT_SECONDS
from liverseg.steps.race import race
from liverseg.storage import record
from tests.race.rehearsal import NONCE, Rehearsal


class Watched:
    """A race that goes on while somebody who looks at it sleeps."""

    def __init__(self) -> None:
        self.rehearsal = Rehearsal()
        self.store = race.caching(self.rehearsal.store)
        self.slept: list[float] = []
        self.looks = 0

    def look(self) -> dict[str, Any]:
        self.looks += 1
        return race.status(self.store, self.rehearsal.study.id, self.rehearsal.executor.now)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) > 2:
            self.rehearsal.run(min(len(self.slept) - 3, 2))


def test_elsewhere_it_is_shown_when_something_changed_and_only_then():
    watched, statuses = Watched(), []
    follow(watched.look, statuses.append, watched.sleep)
    # Never run, twice the same, then three rungs.
    assert (watched.looks, len(statuses)) == (6, 4)
    assert set(watched.slept) == {WATCH_SECONDS}
    assert [status["winner"] is not None for status in statuses] == [False, False, False, True]


def test_on_a_terminal_it_is_drawn_anew_until_the_race_is_over():
    watched, screen = Watched(), io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    draw(watched.look, console, watched.sleep)
    assert watched.looks == 6
    assert "no winner yet" in screen.getvalue()
    # What was drawn is taken away; the end is printed by whoever called.
    assert "winner: seed 3" not in screen.getvalue()


def test_what_seeds_wait_for_is_shown_once_for_all_that_wait_for_the_same(capsys):
    rehearsal = Rehearsal()
    study = rehearsal.study.id
    waiting = {job_name(study, NONCE, Attempt(0, seed, 0)): f"no {seed // 2}" for seed in (0, 1, 2)}
    beat = facts.Heartbeat(1, "somebody", NONCE, time.time(), waiting=waiting)
    record.write(rehearsal.store, facts.heartbeat_key(study), beat.to_mapping())
    status = race.status(rehearsal.store, study)
    assert [seed["waits_for"] for seed in status["seeds"]] == ["no 0", "no 0", "no 1", None]
    show(status)
    output = capsys.readouterr().out
    assert "seed 0, 1 not running yet: no 0\nseed 2 not running yet: no 1\n" in output
    assert "4 have not reported" in output


def test_after_a_stop_was_taken_back_it_says_that_nobody_has_gone_on_yet(capsys):
    rehearsal = Rehearsal()
    study = rehearsal.study.id
    facts.set_stopped(rehearsal.store, study, True, time.time())
    with pytest.raises(Stopped):
        rehearsal.run()
    assert race.status(rehearsal.store, study)["state"] == "stopped: by hand"
    facts.set_stopped(rehearsal.store, study, False, time.time())
    show(race.status(rehearsal.store, study))
    assert "resumed: start the run again" in capsys.readouterr().out


@pytest.mark.parametrize("killed", [False, True])
def test_a_race_with_a_winner_has_ended_however_its_controller_did(killed):
    rehearsal = Rehearsal()
    if killed:
        controller = rehearsal.controller()
        controller.lease.acquire(time.sleep, take_over=True)
        while not controller.reconcile("end")[0]:
            rehearsal.executor.wait(1.0)
    else:
        rehearsal.run(1)
        assert race.status(rehearsal.store, rehearsal.study.id)["state"] == "not running"
        rehearsal.run()
    assert race.status(rehearsal.store, rehearsal.study.id)["state"] == "ended"


def test_a_killed_controller_no_longer_runs_the_race_once_its_heartbeat_is_too_old(capsys):
    rehearsal = Rehearsal()
    study = rehearsal.study.id
    beat = facts.Heartbeat(1, "somebody", NONCE, 1000.0)
    record.write(rehearsal.store, facts.heartbeat_key(study), beat.to_mapping())

    def state(now: float) -> tuple[str, str | None]:
        status = race.status(rehearsal.store, study, now)
        return status["state"], status["controller"]

    assert state(1000.0 + HEARTBEAT_TIMEOUT_SECONDS - 1) == ("running", "somebody")
    assert state(1000.0 + HEARTBEAT_TIMEOUT_SECONDS) == ("not running", None)
    # A clock that is behind the controller's.
    assert state(900.0) == ("running", "somebody")
    show(race.status(rehearsal.store, study))
    assert "no controller runs it (last heartbeat" in capsys.readouterr().out
    stopped = dataclasses.replace(beat, state="stopped: budget")
    record.write(rehearsal.store, facts.heartbeat_key(study), stopped.to_mapping())
    assert state(2000.0) == ("stopped: budget", None)


def test_durations_are_shown_as_people_say_them():
    assert [duration(s) for s in (0, 45.4, 89, 720, 5400, 76_300)] == [
        "0 s", "45 s", "89 s", "12 min", "1:30 h", "21:12 h",
    ]  # fmt: skip

import pytest

from liverseg.settings import from_mapping
from liverseg.simulation.simulated_trainer import invented_score
from liverseg.steps.race import race
from tests.race.fault_script import Killed
from tests.race.rehearsal import NONCE, SETTINGS, Rehearsal


def stopped(rehearsal: Rehearsal, seconds: float) -> dict:
    """Let the race run for so many seconds of its own time; return where it stands then."""
    end = rehearsal.executor.now + seconds

    class Enough(Exception):
        pass

    def sleep(asked: float) -> None:
        rehearsal.executor.sleep(min(asked, end - rehearsal.executor.now))
        if rehearsal.executor.now >= end:
            raise Enough

    with pytest.raises(Enough):
        rehearsal.controller(sleep=sleep).run("end")
    return race.status(rehearsal.store, rehearsal.study.id, rehearsal.executor.now)


def states(status: dict) -> list[tuple[int, str, int, int]]:
    return [(s["rung"], s["state"], s["iteration"], s["target"]) for s in status["seeds"]]


def test_before_the_race_everybody_waits_and_nothing_is_known():
    rehearsal = Rehearsal()
    status = race.status(rehearsal.store, rehearsal.study.id)
    assert states(status) == [(0, "waiting", 0, 2)] * 4
    assert status["remaining_seconds"] is status["heard"] is None
    assert all(s["jaccard"] is s["job"] is s["remaining_seconds"] is None for s in status["seeds"])


def test_who_trains_who_waits_and_who_is_paused():
    # One second to start, two iterations of a second each: after four, 0 and 1 have reported.
    status = stopped(Rehearsal(gpus=2), 4.0)
    assert states(status) == [
        (0, "paused", 2, 2),
        (0, "paused", 2, 2),
        (0, "training", 0, 2),
        (0, "training", 0, 2),
    ]
    assert [s["jaccard"] for s in status["seeds"]] == [pytest.approx(v) for v in (0.02, 0.12)] + [
        None,
        None,
    ]
    study = status["study"]
    assert status["seeds"][2]["job"] == f"lv-{study}-{NONCE}-s0002-r0-a0"
    assert status["seeds"][0]["job"] is None
    assert status["seeds"][0]["iterations_per_second"] == pytest.approx(1.0)
    assert status["heard"] is not None


def test_promoted_seeds_pruned_ones_and_failures():
    faults = [Killed(1, 0, 1, exit_code=78), Killed(2, 1, 3)]
    rehearsal = Rehearsal(gpus=4, faults=faults)
    rehearsal.run(0)
    status = race.status(rehearsal.store, rehearsal.study.id, rehearsal.executor.now)
    assert states(status) == [
        (0, "pruned", 2, 2),
        (0, "failed", 0, 2),
        (1, "promoted", 2, 4),
        (1, "promoted", 2, 4),
    ]
    status = stopped(rehearsal, 3.0)
    # Seed 2 was killed; its next attempt has not begun, or has just begun.
    assert states(status)[2][:3] in [(1, "waiting", 2), (1, "training", 2)]
    rehearsal.run()
    status = race.status(rehearsal.store, rehearsal.study.id, rehearsal.executor.now)
    assert [s["state"] for s in status["seeds"]] == ["pruned", "failed", "pruned", "winner"]
    assert status["remaining_seconds"] == 0


def test_the_best_so_far_counts_validations_after_the_last_report():
    settings = from_mapping({"race": {"minimum_iterations": 4, "maximum_iterations": 16}}, SETTINGS)
    status = stopped(Rehearsal(gpus=4, settings=settings), 3.5)
    assert states(status) == [(0, "training", 2, 4)] * 4
    assert status["seeds"][3]["jaccard"] == pytest.approx(0.32)
    # Two iterations are left, and half a second has passed since the validation.
    assert status["seeds"][3]["remaining_seconds"] == pytest.approx(1.5)


@pytest.mark.parametrize("gpus", [1, 2, 4, 16])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_remaining_time_is_right_within_a_tenth_of_the_race(gpus, share):
    changes = {
        "race": {"seeds": 16, "minimum_iterations": 5_000, "maximum_iterations": 80_000},
        "training": {"validation_interval": 2_500},
    }
    settings = from_mapping(changes, SETTINGS)

    def made() -> Rehearsal:
        return Rehearsal(settings=settings, gpus=gpus, score=invented_score)

    whole = made()
    began = whole.executor.now
    whole.run()
    seconds = whole.executor.now - began
    at = share * seconds
    rehearsal = made()

    class Enough(Exception):
        pass

    def wait(asked: float) -> None:
        rehearsal.executor.wait(asked)
        if rehearsal.executor.now - began >= at:
            raise Enough

    with pytest.raises(Enough):
        rehearsal.controller(sleep=wait).run("end")
    status = race.status(rehearsal.store, rehearsal.study.id, rehearsal.executor.now)
    left = seconds - (rehearsal.executor.now - began)
    assert status["remaining_seconds"] == pytest.approx(left, abs=0.1 * seconds)

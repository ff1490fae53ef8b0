import os
import random

import pytest

from liverseg.race.records.snapshot import read_failures
from tests.race import schedules
from tests.race.fault_script import Killed, NodeLost
from tests.race.schedules import Race, undisturbed

# `SCHEDULES=1000 make test` runs them all.
NUMBERS = range(int(os.environ.get("SCHEDULES", "100")))


@pytest.mark.parametrize("number", NUMBERS)
def test_a_race_with_everything_going_wrong_ends_and_breaks_no_rule(number: int) -> None:
    schedules.run_number(number)


@pytest.mark.slow
def test_the_schedules_are_not_all_alike() -> None:
    """What the sweep is worth: most races meet a failure, some lose a seed, many have rivals."""
    failed = lost = rivals = 0
    for number in range(100):
        race, rng = schedules.random_race(number)
        rivals += race.controllers > 1
        try:
            race.run(rng)
        except schedules.StudyError:
            continue
        failed += bool(read_failures(race.store, race.study.id))
        lost += bool(race.lost())
    assert failed > 50
    assert rivals > 30
    assert lost > 2


@pytest.mark.parametrize(
    "oblivious", [True, False], ids=["both hold the lease", "it changes hands"]
)
@pytest.mark.parametrize("number", range(10))
def test_two_controllers_decide_what_one_would_have_decided(oblivious: bool, number: int) -> None:
    faults = (Killed(5, 0, 13), NodeLost(3, 1, 31), Killed(5, 2, 75, exit_code=75))
    race = Race(8, gpus=3, faults=faults, controllers=2, oblivious=oblivious)
    race.run(random.Random(number))
    assert race.outcome() == undisturbed(8)

from typing import Any

import pytest

from liverseg.core.race.ledger import OUTCOMES
from liverseg.race.decide.cost import ledger
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.settings import from_mapping
from liverseg.simulation.simulated_trainer import invented_score
from tests.race.fault_script import Killed
from tests.race.rehearsal import Rehearsal

# The paper's race; a validation only at the rungs keeps the rehearsal short.
PAPER = from_mapping({"training": {"validation_interval": 5_000}})


def ledger_of(rehearsal: Rehearsal) -> dict[str, Any]:
    snapshot = SnapshotReader(rehearsal.store, rehearsal.study.id).read()
    return ledger(rehearsal.study, snapshot)


def paper_race(**options: Any) -> Rehearsal:
    rehearsal = Rehearsal(settings=PAPER, score=invented_score, gpus=4, **options)
    controller = rehearsal.controller(sleep=lambda _: rehearsal.executor.sleep(500.0))
    controller.run("baseline" if rehearsal.capacity.compare_baseline else "end")
    return rehearsal


@pytest.fixture(scope="module")
def clean() -> Rehearsal:
    return paper_race(compare_baseline=True)


def test_a_clean_race_of_sixteen_seeds_has_240k_useful_iterations_and_saves_1040k(clean):
    costs = ledger_of(clean)
    assert costs["useful"]["iterations"] == 240_000
    assert costs["repeated"]["iterations"] == costs["pruned"]["iterations"] == 0
    assert costs["spent_iterations"] == costs["planned_iterations"] == 240_000
    assert costs["unpruned_iterations"] == 16 * 80_000
    assert costs["saved_iterations"] == 1_040_000


def test_the_baseline_is_in_no_total_of_the_race(clean):
    costs = ledger_of(clean)
    assert costs["baseline"]["useful"]["iterations"] == 80_000
    assert all(row["seed"] < 16 for row in costs["rows"])


def test_on_four_gpus_the_clean_race_takes_the_time_of_100k_iterations(clean):
    race = [
        s
        for s in SnapshotReader(clean.store, clean.study.id).read().spans.values()
        if s.rung != "baseline"
    ]
    begin = min(s.samples[0].time for s in race)
    end = max(s.samples[-1].time for s in race)
    # A look every 500 s delays each job by at most as much.
    assert 80_000 < end - begin < 100_000 + 10 * 500


@pytest.fixture(scope="module")
def disturbed() -> Rehearsal:
    return paper_race(
        faults=[
            Killed(2, 0, iteration=3_000),
            Killed(5, 0, iteration=5_000, exit_code=0),
            Killed(13, 4, iteration=62_000, exit_code=75),
            Killed(1, 0, iteration=4_000, exit_code=78),
        ]
    )


@pytest.mark.parametrize("kind", ["clean", "disturbed"])
def test_outcomes_add_up_to_the_spans(kind, request):
    rehearsal = request.getfixturevalue(kind)
    costs = ledger_of(rehearsal)
    spans = SnapshotReader(rehearsal.store, rehearsal.study.id).read().spans.values()
    race = sum(s.seconds for s in spans if s.rung != "baseline")
    assert sum(costs[o]["seconds"] for o in OUTCOMES) == pytest.approx(race)
    assert costs["seconds"] == pytest.approx(race)
    for outcome in OUTCOMES:
        for unit in ("iterations", "seconds"):
            rows = sum(row[outcome][unit] for row in costs["rows"])
            assert rows == pytest.approx(costs[outcome][unit])


def test_work_that_died_with_its_trainer_is_not_useful(disturbed):
    costs = ledger_of(disturbed)
    # Seed 1 failed for good; everybody else's iterations count once.
    assert costs["useful"]["iterations"] == 235_000
    rows = [r for r in costs["rows"] if (r["seed"], r["rung"]) == (2, 0)]
    assert [r["attempt"] for r in rows] == [0, 1]
    assert sum(r["useful"]["iterations"] for r in rows) == 5_000
    assert sum(r["repeated"]["seconds"] for r in rows) == pytest.approx(3_000)


def test_a_race_that_has_not_begun_has_spent_nothing():
    costs = ledger_of(Rehearsal())
    assert costs["spent_iterations"] == 0
    assert costs["rows"] == []

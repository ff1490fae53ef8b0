import time

import pytest

from liverseg.race.decide import cost
from liverseg.race.records import facts
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.settings import Settings, from_mapping
from liverseg.steps.study import checkpoints
from liverseg.storage import bundle
from tests.race.fault_script import Killed
from tests.race.rehearsal import Rehearsal

SIXTEEN = from_mapping({"training": {"validation_interval": 5000}}, Settings())


def left(rehearsal: Rehearsal) -> set[tuple[int, int]]:
    seeds = range(rehearsal.study.settings.race.seeds)
    saved = {s: facts.checkpoints(rehearsal.store, rehearsal.study.id, s) for s in seeds}
    return {(seed, c.iteration) for seed, committed in saved.items() for c in committed}


def prune(rehearsal: Rehearsal) -> dict:
    return checkpoints.prune(rehearsal.store, rehearsal.study)


def test_of_a_race_that_is_over_the_last_three_rungs_stay() -> None:
    rehearsal = Rehearsal(settings=SIXTEEN, score=None, gpus=4)
    rehearsal.run()
    before = left(rehearsal)
    dry = checkpoints.prune(rehearsal.store, rehearsal.study, dry_run=True)
    assert left(rehearsal) == before
    pruned = prune(rehearsal)
    assert pruned == dry
    assert pruned["bytes"] > 0
    reports = SnapshotReader(rehearsal.store, rehearsal.study.id).read().reports
    rungs = rehearsal.study.rungs
    reached = {(r.seed, rungs[int(r.rung)].iterations) for r in reports}
    named = {(seed, iterations) for seed, iterations in reached if iterations >= 20_000}
    assert len(named) == 4 + 2 + 1
    assert left(rehearsal) == named
    assert prune(rehearsal)["deleted"] == []


@pytest.mark.slow
def test_pruning_at_any_moment_changes_no_result_and_nothing_is_trained_again() -> None:
    undisturbed = Rehearsal(settings=SIXTEEN, score=None, gpus=3)
    undisturbed.run()
    expected = facts.read_result(undisturbed.store, undisturbed.study.id)
    rehearsal = Rehearsal(
        settings=SIXTEEN, score=None, gpus=3, faults=[Killed(5, 0, 4000), Killed(5, 1, 9000)]
    )

    def sleep(seconds: float) -> None:
        rehearsal.executor.wait(seconds)
        prune(rehearsal)

    rehearsal.controller(sleep=sleep).run("end")
    assert facts.read_result(rehearsal.store, rehearsal.study.id) == expected
    snapshot = SnapshotReader(rehearsal.store, rehearsal.study.id).read()
    ledger = cost.ledger(rehearsal.study, snapshot)
    assert ledger["repeated"]["iterations"] == 0
    assert expected is not None
    assert bundle.load(rehearsal.store, expected.model)


def test_before_the_first_decision_nothing_goes_but_what_newer_ones_replace() -> None:
    rehearsal = Rehearsal(settings=SIXTEEN, score=None, gpus=16)
    controller = rehearsal.controller()
    controller.lease.acquire(time.sleep, take_over=True)
    controller.reconcile("end")
    rehearsal.executor.sleep(4999)
    assert prune(rehearsal)["deleted"] == []
    rehearsal.executor.sleep(100)
    assert len(left(rehearsal)) == 16
    assert prune(rehearsal)["deleted"] == []

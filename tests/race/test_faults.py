"""The real controller and the trainer's protocol, with one thing at a time going wrong."""

import math
import time

import pytest

from liverseg.core.race.ledger import OUTCOMES, Sample, Span
from liverseg.errors import PlatformError, Stopped, StoreError
from liverseg.exit_codes import ExitCode
from liverseg.race.audit.replay import replay
from liverseg.race.decide import cost
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.decide.stalls import StallDetector
from liverseg.race.decide.state import LOST_ATTEMPTS
from liverseg.race.records import facts
from liverseg.race.records.job import Attempt, parse_job_name
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.settings import from_mapping
from liverseg.simulation.simulated_executor import BEGINNING
from liverseg.storage import record
from tests.race.fault_script import ApiAway, Hangs, Killed, NodeLost, SlowNode, SlowStart
from tests.race.rehearsal import Rehearsal, report_key, rising

LONG = from_mapping(
    {
        "race": {"seeds": 8, "minimum_iterations": 500, "maximum_iterations": 4000},
        "training": {"validation_interval": 100},
    }
)

HANGING = Attempt(0, 0, 0)


def winner(rehearsal: Rehearsal) -> tuple[int, str]:
    result = facts.read_result(rehearsal.store, rehearsal.study.id)
    assert result is not None
    return result.seed, result.weights_sha256


def long_score(seed: int, iteration: int) -> float:
    return rising(seed, iteration) / 100


def undisturbed() -> Rehearsal:
    rehearsal = Rehearsal(settings=LONG, score=long_score, gpus=4)
    rehearsal.run()
    return rehearsal


def disturbed(*faults: object, **options: object) -> Rehearsal:
    rehearsal = Rehearsal(settings=LONG, score=long_score, gpus=4, faults=faults, **options)
    rehearsal.run()
    assert winner(rehearsal) == winner(undisturbed())
    return rehearsal


def exit_codes(rehearsal: Rehearsal) -> dict[str, int | None]:
    """What the processes themselves ended with, those on cut-off nodes included."""
    prefix = f"lv-{rehearsal.study.id}-{rehearsal.study.nonce}-"
    return {
        name.removeprefix(prefix): process.state.exit_code
        for name, process in rehearsal.executor.processes.items()
    }


def test_a_trainer_on_a_lost_node_is_replaced_and_ends_when_it_sees_its_successor() -> None:
    rehearsal = disturbed(NodeLost(seed=7, rung=1, iteration=600))
    codes = exit_codes(rehearsal)
    assert codes["s0007-r1-a0"] == ExitCode.ORPHANED
    assert codes["s0007-r1-a1"] == 0


def test_of_two_reports_of_one_seed_the_first_attempt_counts_and_changes_nothing() -> None:
    # Cut off at its last validation: it reports all the same, while its successor starts.
    rehearsal = disturbed(NodeLost(seed=7, rung=1, iteration=1000))
    assert exit_codes(rehearsal)["s0007-r1-a0"] == 0
    assert report_key(rehearsal.store, rehearsal.study.id, 1, 7, 0)


def test_a_slow_image_changes_nothing_but_the_time() -> None:
    rehearsal = disturbed(SlowStart(seed=7, rung=2, seconds=5000))
    assert rehearsal.executor.now > undisturbed().executor.now + 4000


def test_a_straggler_is_moved_once_and_its_rung_ends_sooner() -> None:
    slow = SlowNode(seed=7, rung=3, factor=10)
    rehearsal = disturbed(slow)
    (moved,) = [e for e in rehearsal.events_of("failed") if e["kind"] == "straggler"]
    assert (moved["seed"], moved["rung"], moved["attempt"]) == (7, 3, 0)
    assert "moved: 0.1 iterations a second, its siblings 1" in moved["reason"]
    # 2,000 iterations: 20,000 s on the slow node, 2,000 s beside a few validations on another.
    assert rehearsal.executor.now - undisturbed().executor.now < 8000
    # Where every node is slow it stays after the first move.
    everywhere = SlowNode(seed=7, rung=3, factor=10, attempts=(0, 1, 2))
    assert [e["kind"] for e in disturbed(everywhere).events_of("failed")] == ["straggler"]


def test_a_trainer_that_is_a_little_slower_is_not_stopped() -> None:
    assert disturbed(SlowNode(seed=7, rung=3, factor=2.5)).events_of("failed") == []


@pytest.mark.parametrize("iteration", [1, 600, 1000])
def test_a_trainer_that_hangs_is_given_up_and_its_seed_goes_on(iteration: int) -> None:
    # At 1,000 it has reported, and hangs instead of ending.
    rehearsal = disturbed(Hangs(seed=7, rung=1, iteration=iteration))
    codes = exit_codes(rehearsal)
    assert codes["s0007-r1-a0"] == ExitCode.INTERRUPTED
    assert ("s0007-r1-a1" in codes) == (iteration < 1000)
    # Ten validations, or half an hour.
    assert rehearsal.executor.now - undisturbed().executor.now < 2 * 1800
    assert len(rehearsal.events_of("failed")) == (iteration < 1000)


def test_a_controller_that_slept_itself_gives_nobody_up() -> None:
    rehearsal = Rehearsal(settings=LONG, score=long_score, gpus=4, faults=[SlowNode(7, 3, 1.0)])
    stalls = StallDetector()
    spans = SnapshotReader(rehearsal.store, rehearsal.study.id).read().spans
    samples = tuple(Sample(i, float(i)) for i in (0, 0, 100, 200))
    spans[HANGING] = Span(0, 0, 0, samples, False, None)
    assert stalls.look(0.0, [HANGING], spans) == frozenset()
    assert stalls.look(1e6, [HANGING], spans) == frozenset()
    looks = [stalls.look(1e6 + 100.0 * n, [HANGING], spans) for n in range(1, 20)]
    assert [bool(given_up) for given_up in looks] == [False] * 12 + [True] * 7


@pytest.mark.parametrize("start", [0.0, 501.0, 1400.0])
def test_a_platform_that_is_away_for_a_while_is_waited_for_and_reported_once(start: float) -> None:
    rehearsal = disturbed(ApiAway(start, seconds=400))
    assert len(rehearsal.events_of("away")) == len(rehearsal.events_of("back")) == 1
    assert rehearsal.events_of("failed") == []
    assert rehearsal.executor.most_at_once <= 4


def test_a_platform_that_stays_away_is_an_error_and_the_next_run_goes_on() -> None:
    rehearsal = Rehearsal(
        settings=LONG, score=long_score, gpus=4, faults=[ApiAway(700, seconds=3000)]
    )
    with pytest.raises(PlatformError, match="away"):
        rehearsal.run()
    rehearsal.executor.sleep(3000)
    rehearsal.run()
    assert winner(rehearsal) == winner(undisturbed())


@pytest.mark.parametrize("skew", [-90_000.0, 90_000.0])
def test_trainers_whose_clock_is_wrong_by_a_day_are_no_orphans(skew: float) -> None:
    rehearsal = disturbed(skew=lambda seed: skew if seed % 2 else 0.0)
    assert set(exit_codes(rehearsal).values()) == {0}


def test_a_budget_stops_the_race_and_a_larger_one_lets_it_go_on() -> None:
    rehearsal = Rehearsal(settings=LONG, score=long_score, gpus=4, max_gpu_hours=1.0)
    with pytest.raises(Stopped, match=r"stopped: budget: 1\.\d+ of 1 GPU-hours are spent"):
        rehearsal.run()
    heartbeat = facts.read_heartbeat(rehearsal.store, rehearsal.study.id)
    assert heartbeat is not None
    assert heartbeat.state == "stopped: budget"
    spent = SnapshotReader(rehearsal.store, rehearsal.study.id).read().spent_seconds
    # Only what ran when the limit was reached went on, to its rung: four trainers' 500 iterations.
    assert 3600 <= spent < 3600 + 4 * 510
    with pytest.raises(Stopped):
        rehearsal.run()
    assert SnapshotReader(rehearsal.store, rehearsal.study.id).read().spent_seconds == spent
    rehearsal.capacity = Capacity(4, False, max_gpu_hours=100)
    rehearsal.run()
    assert winner(rehearsal) == winner(undisturbed())
    assert facts.read_heartbeat(rehearsal.store, rehearsal.study.id).state == "running"


def test_a_study_that_somebody_stopped_rests_until_it_is_resumed() -> None:
    rehearsal = Rehearsal(settings=LONG, score=long_score, gpus=4)
    store, study = rehearsal.store, rehearsal.study.id

    def stop(seconds: float) -> None:
        rehearsal.executor.wait(seconds)
        if rehearsal.executor.now > BEGINNING + 1200:
            facts.set_stopped(store, study, True, rehearsal.executor.now)

    with pytest.raises(Stopped, match="stopped: by hand: `liverseg study resume`"):
        rehearsal.controller(sleep=stop).run("end")
    assert not any(state.running for state in rehearsal.executor.states().values())
    with pytest.raises(Stopped):
        rehearsal.run()
    assert facts.set_stopped(store, study, False, 0.0)
    assert not facts.set_stopped(store, study, False, 0.0)
    # Somebody has deleted the first record: its number is not counted, and the last one is taken.
    store.delete(store.keys(facts.stops_prefix(study))[0])
    assert facts.set_stopped(store, study, True, 0.0)
    assert facts.set_stopped(store, study, False, 0.0)
    rehearsal.run()
    assert winner(rehearsal) == winner(undisturbed())


@pytest.mark.parametrize("skew", [-90_000.0, 90_000.0])
def test_what_a_killed_trainer_spent_is_measured_by_the_clock_of_its_own_machine(
    skew: float,
) -> None:
    killed = Killed(7, 1, 750)
    right, wrong = disturbed(killed), disturbed(killed, skew=lambda seed: skew * (seed == 7))
    spent = [SnapshotReader(r.store, r.study.id).read().spent_seconds for r in (right, wrong)]
    assert spent[0] == pytest.approx(spent[1])


def test_a_trainer_that_was_given_up_and_goes_on_spends_what_it_spends() -> None:
    lost, dies = NodeLost(7, 1, 600), Killed(7, 1, 950)
    rehearsal = disturbed(lost, dies, SlowStart(7, 1, 600, attempts=(1,)))
    snapshot = SnapshotReader(rehearsal.store, rehearsal.study.id).read()
    rows = cost.ledger(rehearsal.study, snapshot)["rows"]
    assert all(row[o]["seconds"] >= 0 for row in rows for o in OUTCOMES)
    zombie = next(r for r in rows if (r["seed"], r["rung"], r["attempt"]) == (7, 1, 0))
    assert sum(zombie[o]["iterations"] for o in OUTCOMES) == 400


@pytest.mark.parametrize("faults", [
    (),
    (SlowStart(7, 1, 600), Killed(6, 0, 1), Killed(5, 2, 1500, exit_code=1), NodeLost(4, 0, 300)),
])  # fmt: skip
def test_the_ledger_has_every_second_that_a_trainer_had_its_gpu(faults) -> None:
    rehearsal = disturbed(*faults)
    processes, lost = rehearsal.executor.processes.values(), rehearsal.executor.cut_off
    gpu_seconds = sum(p.state.ended - p.submitted for p in processes if p.job.name not in lost)
    snapshot = SnapshotReader(rehearsal.store, rehearsal.study.id).read()
    begun = (parts for name in lost if (parts := parse_job_name(name)) is not None)
    elsewhere = sum(snapshot.spans[parts[2]].seconds for parts in begun)
    assert snapshot.spent_seconds == pytest.approx(gpu_seconds + elsewhere)
    assert gpu_seconds > undisturbed().executor.now - BEGINNING
    assert len(lost) == bool(faults)


def test_nodes_that_are_taken_away_cost_time_and_no_seed_its_race() -> None:
    rehearsal = Rehearsal(settings=LONG, score=long_score, gpus=4)
    # Every attempt but each tenth loses its node before its first checkpoint.
    rehearsal.executor.lifetime = lambda job: math.inf if job.attempt % 10 == 9 else 50.0
    rehearsal.run()
    assert winner(rehearsal) == winner(undisturbed())
    assert list(replay(rehearsal.store, rehearsal.study.id).findings) == []


@pytest.mark.parametrize("code", [ExitCode.STORE, ExitCode.INTEGRITY, ExitCode.SETTINGS_DIFFER])
def test_what_stopped_an_earlier_controller_does_not_stop_the_next(code: int) -> None:
    refused = [Killed(seed, 0, 200, exit_code=code) for seed in (0, 1)]
    rehearsal = Rehearsal(settings=LONG, score=long_score, gpus=4, faults=refused)
    first = rehearsal.controller()
    first.lease.acquire(time.sleep, take_over=True)
    first.reconcile("end")
    rehearsal.executor.sleep(300)
    rehearsal.run()
    assert winner(rehearsal) == winner(undisturbed())


def test_a_store_that_one_trainer_cannot_reach_stops_the_race_at_its_last_attempt() -> None:
    def refused(attempts: int) -> Killed:
        return Killed(0, 0, 200, exit_code=StoreError.exit_code, attempts=tuple(range(attempts)))

    assert len(disturbed(refused(5)).events_of("failed")) == 5
    with pytest.raises(StoreError, match="seed 0 at rung 0 cannot continue"):
        disturbed(refused(LOST_ATTEMPTS))


@pytest.mark.parametrize(
    "faults",
    [
        (),
        (Killed(7, 1, 750), NodeLost(6, 1, 800), SlowNode(5, 2, 10.0), Killed(4, 0, 450, 75)),
    ],
)
def test_the_outcomes_of_the_ledger_add_up_to_the_spans(faults) -> None:
    rehearsal = disturbed(*faults)
    snapshot = SnapshotReader(rehearsal.store, rehearsal.study.id).read()
    ledger = cost.ledger(rehearsal.study, snapshot)
    outcomes = sum(ledger[o]["seconds"] for o in ("useful", "repeated", "pruned", "startup"))
    assert outcomes == pytest.approx(snapshot.spent_seconds)
    assert ledger["useful"]["iterations"] == ledger["planned_iterations"]
    rows = sum(row["useful"]["seconds"] for row in ledger["rows"])
    assert rows == pytest.approx(ledger["useful"]["seconds"])
    assert record.encode(ledger)

"""The real controller, in virtual time, with everything going wrong that can."""

import dataclasses
import itertools
import json
import time
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import pytest

from liverseg.errors import (
    Fenced,
    IntegrityError,
    PlatformError,
    SettingsError,
    StoreAway,
    StoreError,
    StudyError,
)
from liverseg.race.controller import Controller
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.decide.state import LOST_ATTEMPTS
from liverseg.race.records import facts, spans
from liverseg.race.records.decisions import Decision, Failure, Promotion
from liverseg.race.records.job import Attempt, Job, JobState, job_name
from liverseg.race.records.key_forms import PROMOTION, key_of
from liverseg.race.records.lease import Lease
from liverseg.race.records.result import write_result
from liverseg.race.records.snapshot import read_failures
from liverseg.race.records.study import Study
from liverseg.settings import BASELINE_SEED, from_mapping
from liverseg.simulation.simulated_executor import BEGINNING
from liverseg.simulation.simulated_trainer import invented_score
from liverseg.storage import bundle, record
from liverseg.storage.memory import MemoryStore
from tests.race.fault_script import Crash, Killed, SlowNode
from tests.race.faulty_executor import FaultyExecutor
from tests.race.rehearsal import (
    DATASET,
    NONCE,
    SETTINGS,
    Rehearsal,
    report_key,
    rising,
    run_beside_a_second,
)

Outcome = tuple[list[tuple[tuple[int, ...], tuple[int, ...]]], str, str]


def decisions(rehearsal: Rehearsal) -> list[Decision]:
    keys = [key for key in rehearsal.store.keys("") if key.endswith("/decision.json")]
    return [record.read(rehearsal.store, key, Decision) for key in keys]


def outcome(rehearsal: Rehearsal) -> Outcome:
    """Who went on at every rung, and the winner's weights as delivered."""
    result = facts.read_result(rehearsal.store, rehearsal.study.id)
    assert result is not None
    model = bundle.load(rehearsal.store, result.model)
    assert model["model.safetensors"]
    survivors = [(d.promoted, d.pruned) for d in decisions(rehearsal)]
    described = bundle.manifest(rehearsal.store, result.model).files["model.safetensors"]
    return survivors, result.weights_sha256, described.sha256


def failures(rehearsal: Rehearsal) -> list[Failure]:
    return read_failures(rehearsal.store, rehearsal.study.id)


def undisturbed(**options: object) -> Outcome:
    rehearsal = Rehearsal(**options)
    rehearsal.run()
    return outcome(rehearsal)


def test_the_better_half_goes_on_until_one_is_left():
    rehearsal = Rehearsal()
    controller = rehearsal.run()
    survivors, reported, delivered = outcome(rehearsal)
    assert survivors == [((3, 2), (1, 0)), ((3,), (2,)), ((3,), ())]
    assert reported == delivered
    assert controller.started == 4 + 2 + 1


def test_a_decision_names_the_reports_it_rests_on():
    rehearsal = Rehearsal()
    rehearsal.run()
    for decision in decisions(rehearsal):
        for entry in decision.inputs:
            key = report_key(
                rehearsal.store, rehearsal.study.id, decision.rung, entry.seed, entry.attempt or 0
            )
            assert bundle.sha256(rehearsal.store.get(key)).hexdigest() == entry.sha256


def test_the_model_says_what_it_is():
    rehearsal = Rehearsal()
    rehearsal.run()
    files = bundle.load(rehearsal.store, facts.model_prefix(rehearsal.study.id))
    model = json.loads(files["model.json"])
    assert model["seed"] == 3
    assert model["jaccard"] == pytest.approx(0.38)
    assert (model["iterations"], model["best_iteration"]) == (8, 8)
    assert model["weights_sha256"] == bundle.sha256(files["model.safetensors"]).hexdigest()
    assert model["study"] == rehearsal.study.id
    assert from_mapping(model["settings"]) == SETTINGS
    assert model["synthetic"] is True


def test_a_second_run_starts_nothing_and_writes_nothing_but_its_heartbeat():
    rehearsal = Rehearsal()
    rehearsal.run()
    before = dict(rehearsal.store.objects)
    assert rehearsal.run().started == 0
    changed = {k for k, v in rehearsal.store.objects.items() if before.get(k) != v}
    assert changed == {facts.heartbeat_key(rehearsal.study.id)}


def test_a_rungs_run_ends_with_its_decision_and_the_next_one_adopts_what_runs():
    # Seed 0 is late, so that the others are at the next rung when the first is decided.
    rehearsal = Rehearsal(
        gpus=2, faults=[Killed(0, 0, 1, attempts=(0, 1))], score=lambda s, i: 0.9 - 0.1 * s
    )
    started = [rehearsal.run(until).started for until in (0, 1, 2)]
    assert sum(started) == 4 + 2 + 1 + 2
    assert outcome(rehearsal) == undisturbed(score=lambda s, i: 0.9 - 0.1 * s)


def test_each_rungs_run_decides_that_rung():
    rehearsal = Rehearsal()
    for rung in range(3):
        rehearsal.run(rung)
        assert len(decisions(rehearsal)) == rung + 1
    # The last rung is the end: the winner is delivered.
    assert outcome(rehearsal) == undisturbed()


@pytest.mark.parametrize("gpus", [1, 2, 3, 4, 16])
def test_capacity_changes_no_decision_and_is_never_exceeded(gpus):
    rehearsal = Rehearsal(gpus=gpus)
    rehearsal.run()
    assert outcome(rehearsal) == undisturbed()
    assert rehearsal.executor.most_at_once == min(gpus, 4)


@pytest.mark.parametrize("talent", range(12))
def test_early_promotion_never_changes_who_goes_on(talent):
    # Sixteen seeds with curves that cross, on four GPUs: many promotions come early.
    settings = from_mapping({"race": {"seeds": 16, "maximum_iterations": 32}}, SETTINGS)

    def score(seed: int, iteration: int) -> float:
        return round(invented_score(seed + 100 * talent, 2000 * iteration), 2)

    rehearsal = Rehearsal(settings=settings, score=score, gpus=4)
    rehearsal.run()
    alive = list(range(16))
    for rung, decision in enumerate(decisions(rehearsal)):
        best = {s: max(score(s, i) for i in range(2, 2 ** (rung + 1) + 1, 2)) for s in alive}
        alive = sorted(alive, key=lambda s: (-best[s], s))[: max(1, 8 >> rung)]
        assert list(decision.promoted) == alive
    assert rehearsal.events_of("promoted")


def test_an_early_promotion_is_in_the_store_before_the_seeds_next_job_starts():
    rehearsal = Rehearsal(gpus=4, faults=[Killed(0, 0, 1)])
    rehearsal.run()
    promoted = {(e["rung"], e["seed"]) for e in rehearsal.events_of("promoted")}
    # Whatever seed 0 reports, seed 3 is among the best two of four.
    assert promoted == {(0, 3)}
    happened = [(e["event"], e.get("rung"), e.get("seed")) for e in rehearsal.events]
    decided = next(n for n, h in enumerate(happened) if h[:2] == ("decided", 0))
    assert happened.index(("promoted", 0, 3)) < happened.index(("started", 1, 3)) < decided
    key = key_of(PROMOTION, rehearsal.study.id, rung=0, seed=3)
    promotion = record.read(rehearsal.store, key, Promotion)
    assert {entry.seed for entry in promotion.inputs} == {1, 2, 3}


@pytest.mark.parametrize(
    "fault",
    [
        Killed(3, 0, iteration=1),
        Killed(3, 1, iteration=3, exit_code=75),
        Killed(3, 2, iteration=8, exit_code=0),
        Killed(2, 0, iteration=2, exit_code=1, attempts=(0, 1)),
        Killed(3, 2, iteration=7, exit_code=-15, attempts=(0, 1, 2, 3, 4)),
    ],
)
def test_a_trainer_that_dies_is_replaced_and_nothing_else_changes(fault):
    rehearsal = Rehearsal(faults=[fault])
    rehearsal.run()
    assert outcome(rehearsal) == undisturbed()
    assert len(failures(rehearsal)) == len(fault.attempts)
    assert all(f.kind == "infrastructure" for f in failures(rehearsal))


def test_a_loss_that_turns_nan_puts_the_seed_last_and_the_race_goes_on():
    rehearsal = Rehearsal(faults=[Killed(3, 0, iteration=1, exit_code=78)])
    rehearsal.run()
    survivors, _, _ = outcome(rehearsal)
    assert survivors[0] == ((2, 1), (0, 3))
    (failed,) = failures(rehearsal)
    assert (failed.kind, failed.seed, failed.attempt) == ("model", 3, 0)


def test_a_seed_that_always_crashes_is_given_up_after_three_attempts():
    rehearsal = Rehearsal(faults=[Killed(3, 1, iteration=3, exit_code=1, attempts=(0, 1, 2))])
    rehearsal.run()
    survivors, _, _ = outcome(rehearsal)
    assert survivors[1] == ((2,), (3,))
    assert [f.attempt for f in failures(rehearsal)] == [0, 1, 2]


def test_if_every_seed_fails_the_race_ends_with_an_error_that_names_them():
    faults = [Killed(seed, 0, 1, exit_code=78) for seed in range(4)]
    rehearsal = Rehearsal(faults=faults)
    with pytest.raises(
        StudyError,
        match=r"(?s)all 4 seeds failed at rung 0.*lower training.learning_rate:.*not finite; simul",
    ):
        rehearsal.run()


def test_what_failed_for_want_of_something_is_tried_again_by_the_next_run():
    faults = [Killed(seed, 0, 1, exit_code=1, attempts=(0, 1, 2)) for seed in range(4)]
    rehearsal = Rehearsal(faults=faults)
    with pytest.raises(StudyError, match="fix the cause and start again"):
        rehearsal.run()
    rehearsal.run()
    assert outcome(rehearsal) == undisturbed()


@pytest.mark.parametrize(
    ("code", "error"),
    [(77, StudyError), (2, SettingsError), (5, IntegrityError), (6, StudyError)],
)
def test_what_a_person_has_to_mend_stops_the_race_at_once_and_costs_no_seed(code, error):
    rehearsal = Rehearsal(faults=[Killed(2, 0, 1, exit_code=code)])
    with pytest.raises(error, match=f"seed 2 at rung 0 cannot continue: exit code {code}"):
        rehearsal.run()
    assert_only_ended_with(rehearsal, code)
    rehearsal.run()
    assert outcome(rehearsal) == undisturbed()
    # The others were adopted where they were.
    assert [f.exit_code for f in failures(rehearsal)] == [code]


def assert_only_ended_with(rehearsal: Rehearsal, code: int) -> None:
    """Some trainers run, and nobody ended those that do not."""
    states = rehearsal.executor.states().values()
    assert any(state.running for state in states)
    assert {state.exit_code for state in states if not state.running} <= {0, code}


def test_a_store_that_one_node_cannot_reach_stops_the_race_only_with_the_last_attempt():
    once = Rehearsal(faults=[Killed(2, 0, 1, exit_code=4)])
    once.run()
    assert outcome(once) == undisturbed()
    # As often as a seed may be ended by others. Seed 3 still trains then.
    refused = Killed(2, 0, 1, exit_code=4, attempts=tuple(range(LOST_ATTEMPTS)))
    always = Rehearsal(faults=[refused, SlowNode(3, 0, 1000.0)])
    with pytest.raises(StoreError, match="seed 2 at rung 0 cannot continue: exit code 4"):
        always.run()
    assert_only_ended_with(always, 4)
    always.run()
    assert outcome(always) == undisturbed()


def test_ctrl_c_stops_the_trainers_and_the_next_run_goes_on():
    rehearsal = Rehearsal()

    def interrupted(_seconds: float) -> None:
        rehearsal.executor.sleep(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rehearsal.controller(sleep=interrupted).run("end")
    assert not any(state.running for state in rehearsal.executor.states().values())
    rehearsal.run()
    assert outcome(rehearsal) == undisturbed()


def crash_at(write: int) -> tuple[MemoryStore, MemoryStore]:
    """Stores whose n-th write kills the writer: before it takes effect, and after."""

    def crash(number: int, _key: str) -> None:
        if number == write:
            raise Crash

    return MemoryStore(before_write=crash), MemoryStore(after_write=crash)


def survive(rehearsal: Rehearsal) -> None:
    """Start a controller again and again until one lives to see the end."""
    for _ in range(3):
        try:
            rehearsal.run("baseline")
            return
        except Crash:
            pass
    raise AssertionError("more than one crash")


@pytest.mark.slow
def test_for_a_crash_at_every_write_the_race_has_the_same_survivors_and_the_same_winner():
    calm = Rehearsal(compare_baseline=True)
    calm.run("baseline")
    expected = outcome(calm)
    first = len(Rehearsal().store.objects)
    for write in range(first, calm.store.writes + 1):
        for store in crash_at(write):
            rehearsal = Rehearsal(store, compare_baseline=True)
            survive(rehearsal)
            assert outcome(rehearsal) == expected, f"crash at write {write}"
            assert facts.read_result(store, rehearsal.study.id, "baseline") is not None


def test_a_newer_controller_fences_the_older_one():
    rehearsal = Rehearsal()
    older = rehearsal.controller(sleep=lambda _: rehearsal.run())
    with pytest.raises(Fenced, match="taken over"):
        older.run("end")
    assert outcome(rehearsal) == undisturbed()
    assert any(state.exit_code == 0 for state in rehearsal.executor.states().values())


def test_a_fenced_controller_leaves_the_trainers_to_its_successor():
    rehearsal = Rehearsal()
    older = rehearsal.controller(sleep=lambda _: newer.run(0))
    newer = rehearsal.controller()
    with pytest.raises(Fenced):
        older.run("end")
    rehearsal.run()
    assert failures(rehearsal) == []


@pytest.mark.slow
@pytest.mark.parametrize("script", range(10))
def test_whatever_dies_at_random_the_race_has_the_same_survivors_and_the_same_winner(script):
    settings = from_mapping({"race": {"seeds": 16, "maximum_iterations": 32}}, SETTINGS)
    rng = np.random.default_rng(script)

    def score(seed: int, iteration: int) -> float:
        return invented_score(seed + 100 * script, 2000 * iteration)

    faults = []
    for rung, seed in itertools.product(range(5), range(16)):
        if rng.random() < 0.3:
            reached = int(rng.integers(2**rung, 2 ** (rung + 1))) + 1
            code = int(rng.choice([-9, 1, 0, 75, 76]))
            faults.append(Killed(seed, rung, reached, code))
    # Few and far between: three at one rung would be a seed that has failed for good.
    writes = {int(rng.integers(start, start + 60)) for start in (5, 150, 300)}

    def crash(number: int, _key: str) -> None:
        if number in writes:
            raise Crash

    options = {"settings": settings, "score": score, "gpus": int(rng.integers(1, 6))}
    rehearsal = Rehearsal(MemoryStore(before_write=crash), faults=faults, **options)
    for _ in range(len(writes) + 1):
        with suppress(Crash):
            rehearsal.run()
    assert outcome(rehearsal) == undisturbed(**options)


CONTROLLERS_OWN = ("heartbeat", "/promotions/", "/decision.json", "/model/", "/results/")


def second_controller_at(write: int) -> Rehearsal:
    rehearsal = Rehearsal()
    run_beside_a_second(rehearsal, write, CONTROLLERS_OWN)
    return rehearsal


@pytest.mark.parametrize("write", range(1, 10))
def test_two_controllers_come_to_the_same_end_wherever_the_second_one_starts(write):
    assert outcome(second_controller_at(write)) == undisturbed()


def test_a_lease_that_the_older_controller_wrote_over_is_taken_back():
    rehearsal = Rehearsal()
    options = {"clock": lambda: 0.0, "monotonic": lambda: 0.0}
    older, newer = (Lease(rehearsal.store, rehearsal.study, **options) for _ in range(2))
    older.acquire(rehearsal.executor.sleep)
    key = facts.heartbeat_key(rehearsal.study.id)
    late = rehearsal.store.get(key)
    newer.acquire(rehearsal.executor.sleep, take_over=True)
    rehearsal.store.put(key, late)
    newer.renew()
    with pytest.raises(Fenced):
        older.renew()


class Hasty(FaultyExecutor):
    """Time passes around every look at the jobs: trainers report and end in between."""

    def states(self) -> Mapping[str, JobState]:
        self.sleep(3)
        states = dict(super().states())
        self.sleep(3)
        return states


def test_a_job_that_reports_and_ends_between_two_looks_is_not_taken_for_a_failure():
    rehearsal = Rehearsal()
    hasty = Hasty(rehearsal.store, rehearsal.study, score=rising, startup_seconds=1.0)
    controller = Controller(
        rehearsal.store,
        hasty,
        rehearsal.study,
        Capacity(2, False),
        clock=hasty.clock,
        monotonic=hasty.clock,
        sleep=hasty.sleep,
    )
    controller.run("end")
    assert failures(rehearsal) == []
    assert outcome(rehearsal) == undisturbed()


def test_the_baseline_delays_no_job_of_the_race():
    def starts(compare_baseline: bool) -> list[tuple[str, float]]:
        rehearsal = Rehearsal(compare_baseline=compare_baseline, gpus=2)
        listened: list[tuple[str, float]] = []

        def listen(event: Mapping[str, object]) -> None:
            if event["event"] == "started" and event["seed"] != BASELINE_SEED:
                listened.append((str(event["seed"]), rehearsal.executor.now))

        rehearsal.controller(listener=listen).run("end")
        return listened

    assert starts(compare_baseline=True) == starts(compare_baseline=False)


def test_the_baseline_is_delivered_beside_the_winner():
    rehearsal = Rehearsal()
    rehearsal.capacity = Capacity(2, compare_baseline=True)
    rehearsal.run("baseline")
    assert outcome(rehearsal) == undisturbed()
    baseline = facts.read_result(rehearsal.store, rehearsal.study.id, "baseline")
    assert baseline is not None
    assert (baseline.seed, baseline.iterations) == (BASELINE_SEED, 8)
    model = bundle.load(rehearsal.store, facts.model_prefix(rehearsal.study.id, "baseline"))
    assert model["model.safetensors"] == b"weights of seed 9999 at 8"


def test_without_the_comparison_no_baseline_is_started():
    rehearsal = Rehearsal(gpus=16)
    rehearsal.run()
    assert not any("baseline" in name for name in rehearsal.executor.states())


def test_a_baseline_that_fails_for_good_stops_nobody():
    faults = [Killed(BASELINE_SEED, 2, 1, exit_code=78)]
    rehearsal = Rehearsal(compare_baseline=True, faults=faults, score=low)
    rehearsal.run("end")
    rehearsal.run("baseline")
    assert facts.ended_arms(rehearsal.store, rehearsal.study.id).keys() == {"multi"}
    assert [e["seed"] for e in rehearsal.events_of("failed")] == [BASELINE_SEED]


class Crowded(FaultyExecutor):
    """Before its pod is scheduled, a job waits; seed 1's for two minutes."""

    def states(self) -> Mapping[str, JobState]:
        return {
            name: dataclasses.replace(state, waits_for="no GPU is free")
            if "-s0001-r0-" in name and state.running and self.now < BEGINNING + 120
            else state
            for name, state in super().states().items()
        }


def test_what_a_job_waits_for_is_in_the_heartbeat_and_reported_once_after_a_minute():
    rehearsal = Rehearsal()
    crowded = Crowded(rehearsal.store, rehearsal.study, score=rising, seconds_per_iteration=50)
    events, waiting = [], []

    def look(seconds: float) -> None:
        beat = facts.read_heartbeat(rehearsal.store, rehearsal.study.id)
        assert beat is not None
        waiting.append(beat.waiting)
        crowded.sleep(seconds)

    controller = Controller(
        rehearsal.store,
        crowded,
        rehearsal.study,
        Capacity(2, False),
        clock=crowded.clock,
        monotonic=crowded.clock,
        sleep=look,
        poll_seconds=5.0,
        listener=lambda event: events.append((crowded.now - BEGINNING, dict(event))),
    )
    controller.run(0)
    job = job_name(rehearsal.study.id, NONCE, Attempt(0, 1, 0))
    assert {job: "no GPU is free"} in waiting
    assert waiting[-1] == {}
    waits = [(seconds, event) for seconds, event in events if event["event"] == "waits"]
    expected = {"event": "waits", "reason": "no GPU is free", "seed": 1, "rung": 0, "attempt": 0}
    assert [event for _, event in waits] == [expected]
    assert 60 <= waits[0][0] <= 70


def low(seed: int, iteration: int) -> float:
    return rising(min(seed, 4), iteration)


def test_the_heartbeat_is_renewed_while_the_race_runs():
    rehearsal = Rehearsal()
    times = set()

    def look(seconds: float) -> None:
        beat = facts.read_heartbeat(rehearsal.store, rehearsal.study.id)
        assert beat is not None
        times.add(beat.time)
        assert rehearsal.executor.now - beat.time <= 10.0 + seconds
        rehearsal.executor.sleep(seconds)

    rehearsal.controller(sleep=look).run("end")
    assert len(times) > 1


def test_a_killed_trainers_span_is_closed_at_the_time_of_its_end():
    rehearsal = Rehearsal(faults=[Killed(3, 0, iteration=1)])
    rehearsal.run()
    events = spans.events(rehearsal.store, rehearsal.study, Attempt(0, 3, 0))
    (closed,) = [event[:-5].split("_") for event in events if "/closed_" in event]
    # One second to start, one for the iteration it died in.
    assert float(closed[2]) - float(closed[1]) == 2.0
    assert closed[3] == "-9"


def test_listeners_hear_of_every_report_once():
    rehearsal = Rehearsal()
    rehearsal.run()
    heard = [(e["rung"], e["seed"]) for e in rehearsal.events_of("reported")]
    assert sorted(heard) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    jaccards = {e["seed"]: e["jaccard"] for e in rehearsal.events_of("reported")}
    assert jaccards[0] == pytest.approx(0.02)


def test_a_checkpoint_that_is_not_the_reported_one_is_not_delivered():
    rehearsal = Rehearsal()
    rehearsal.run()
    key = report_key(rehearsal.store, rehearsal.study.id, 2, 3, 0)
    report = record.read(rehearsal.store, key, facts.Report)
    other = dataclasses.replace(report, checkpoint_sha256="0" * 64)
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        write_result(rehearsal.store, rehearsal.study, "multi", other)
    other = dataclasses.replace(report, weights_sha256="0" * 64)
    with pytest.raises(IntegrityError, match=r"best\.safetensors"):
        write_result(rehearsal.store, rehearsal.study, "multi", other)
    rehearsal.store.put(report.checkpoint + "best.safetensors", b"changed")
    with pytest.raises(IntegrityError, match=r"best\.safetensors"):
        write_result(rehearsal.store, rehearsal.study, "multi", report)


def test_no_gpus_and_a_study_of_another_version_are_refused():
    rehearsal = Rehearsal()
    with pytest.raises(SettingsError, match=r"gpus \(0\) must be at least 1"):
        Controller(rehearsal.store, rehearsal.executor, rehearsal.study, Capacity(0, False))
    foreign = Study("0123456789ab", SETTINGS, DATASET, NONCE)
    with pytest.raises(StudyError, match="another version"):
        Controller(rehearsal.store, rehearsal.executor, foreign, Capacity(1, False))


def test_a_job_that_takes_its_time_to_end_is_asked_again_and_reported_once() -> None:
    rehearsal, asked = Rehearsal(gpus=1), []
    # Of a rung that its seed has not reached.
    stray = Job.of(rehearsal.study.id, NONCE, 0, 1, 0, 4)
    rehearsal.executor.submit(stray)
    rehearsal.executor.cancel = asked.append  # type: ignore[method-assign]
    controller = rehearsal.controller()
    controller.lease.acquire(time.sleep, take_over=True)
    controller.reconcile("end")
    controller.reconcile("end")
    assert asked == [stray.name] * 2
    assert rehearsal.events_of("cancelled") == [
        {"event": "cancelled", "seed": 0, "rung": 1, "attempt": 0}
    ]


def test_an_outage_of_the_store_and_one_of_the_platform_are_distinguished() -> None:
    rehearsal = Rehearsal()
    states, errors = rehearsal.executor.states, [StoreAway("closed"), PlatformError("no answer")]

    def refused() -> Mapping[str, JobState]:
        if errors:
            raise errors.pop(0)
        return states()

    rehearsal.executor.states = refused  # type: ignore[method-assign]
    rehearsal.run()
    outages = [(e["event"], e["what"]) for e in rehearsal.events if "what" in e]
    assert outages == [
        ("away", "store"),
        ("back", "store"),
        ("away", "platform"),
        ("back", "platform"),
    ]


def test_the_end_of_the_race_does_not_wait_for_the_baseline() -> None:
    slow = SlowNode(BASELINE_SEED, "baseline", 100.0)
    rehearsal = Rehearsal(gpus=4, compare_baseline=True, faults=[slow])
    rehearsal.run("end")
    assert [name for name, job in rehearsal.executor.states().items() if job.running] == [
        job_name(rehearsal.study.id, NONCE, Attempt("baseline", BASELINE_SEED, 0))
    ]
    rehearsal.run("baseline")
    assert facts.read_result(rehearsal.store, rehearsal.study.id, "baseline") is not None

"""What a reader of a race looks at again."""

from liverseg.race.decide.state import fold
from liverseg.race.records import spans
from liverseg.race.records.decisions import Decision, Failure, Input, Promotion
from liverseg.race.records.facts import Report
from liverseg.race.records.job import Attempt
from liverseg.race.records.key_forms import DECISION, key_of
from liverseg.race.records.reports import write_report
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.storage import record
from tests.race.rehearsal import Rehearsal


def test_the_end_of_a_job_that_never_began_is_seen_after_its_rung_was_decided():
    rehearsal = Rehearsal()
    store, study = rehearsal.store, rehearsal.study
    record.write_new(
        store, key_of(DECISION, study.id, rung=0), Decision(0, 2, (), (), ()).to_mapping()
    )
    reader, attempt = SnapshotReader(store, study.id), Attempt(0, 3, 0)
    assert reader.read([attempt]).closed == frozenset()
    spans.write(store, study, attempt, spans.closed(1.0, 2.0, -9))
    assert reader.read([attempt]).closed == {attempt}


def test_an_event_that_comes_after_its_rung_was_decided_is_seen_until_its_attempt_is_closed():
    rehearsal = Rehearsal()
    store, study, attempt = rehearsal.store, rehearsal.study, Attempt(0, 3, 0)
    spans.write(store, study, attempt, spans.start(1.0, "node"))
    decision = Decision(0, 2, (), (), ())
    record.write_new(store, decision.key(study.id), decision.to_mapping())
    reader = SnapshotReader(store, study.id)
    assert reader.read([]).spent_seconds == 0
    # Its node was cut off: nobody knows its job, and it trains on.
    spans.write(store, study, attempt, spans.sample(2, 6.0))
    assert reader.read([]).spent_seconds == 5


def test_an_attempt_that_failed_is_unknown_until_its_end_is_recorded():
    rehearsal = Rehearsal()
    store, study, attempt = rehearsal.store, rehearsal.study, Attempt(0, 3, 0)
    spans.write(store, study, attempt, spans.start(1.0, "node"))
    failure = Failure(3, 0, 0, 1, "test", "infrastructure")
    record.write_new(store, failure.key(study.id), failure.to_mapping())
    # A controller was killed between the two writes, and the job is gone.
    reader = SnapshotReader(store, study.id)
    assert reader.read([]).unknown == {attempt}
    assert reader.read([attempt]).unknown == set()
    spans.write(store, study, attempt, spans.closed(1.0, 2.0, 1))
    assert reader.read([]).unknown == set()


def test_an_attempt_whose_seed_has_reported_is_known_once_its_end_is_recorded():
    rehearsal = Rehearsal()
    store, study = rehearsal.store, rehearsal.study
    write_report(store, study.id, report(1))
    reader, attempts = SnapshotReader(store, study.id), [Attempt(0, 3, n) for n in (0, 1)]
    for attempt in attempts:
        spans.write(store, study, attempt, spans.start(1.0, "node"))
    assert reader.read([]).unknown == set(attempts)
    for attempt in attempts:
        spans.write(store, study, attempt, spans.closed(1.0, 2.0, 0))
    # This executor knows no job of them; neither has, or needs, a failure.
    assert reader.read([]).unknown == set()


def test_what_a_promotion_rests_on_is_read_where_a_seed_has_reported_twice():
    rehearsal = Rehearsal()
    store, study = rehearsal.store, rehearsal.study
    for attempt in (0, 1):
        write_report(store, study.id, report(attempt))
    (_, later) = SnapshotReader(store, study.id).read().reports
    promotion = Promotion(0, 3, (Input(3, 1, 0.5, later.sha256),))
    record.write_new(store, promotion.key(study.id), promotion.to_mapping())
    snapshot = SnapshotReader(store, study.id).read()
    assert snapshot.named == {(0, 3): later.sha256}
    state = fold(study.rungs, study.settings.race, snapshot, 1)
    # Not the lowest attempt, which another process of the seed has written since.
    assert state.rungs[0].seeds[3].report == later


def report(attempt: int) -> Report:
    """A report of seed 3 at rung 0."""
    return Report(
        seed=3,
        rung=0,
        attempt=attempt,
        iterations=2,
        best_jaccard=0.5,
        best_iteration=2,
        last_jaccard=0.5,
        cases={},
        checkpoint="checkpoint/",
        checkpoint_sha256=64 * "5",
        weights_sha256=64 * "6",
    )

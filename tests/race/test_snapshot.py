"""What a reader of a race looks at again."""

from liverseg.race.records import spans
from liverseg.race.records.decisions import Decision
from liverseg.race.records.job import Attempt
from liverseg.race.records.key_forms import DECISION, key_of
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

"""What is left of a seed's checkpoints, beside files that are not the race's own."""

from liverseg.race.records import facts, lineage
from liverseg.storage import bundle
from tests.race.rehearsal import Rehearsal


def test_a_file_that_is_no_checkpoints_is_left_alone_when_older_ones_are_removed():
    rehearsal = Rehearsal()
    store, study = rehearsal.store, rehearsal.study
    prefix = facts.checkpoints_prefix(study.id, 1)
    foreign = [
        prefix + name for name in ("notes.txt", "1-notes.txt", "1-a0.tar", "x-a0/state.json")
    ]
    for key in foreign:
        store.put(key, b"")
    for iteration in (1, 3, 5):
        saved = facts.checkpoint_prefix(study.id, 1, iteration, 0)
        bundle.commit(store, saved, {"state.json": b"{}"})
    cut_short = facts.checkpoint_prefix(study.id, 1, 1, 1) + "state.json"
    store.put(cut_short, b"{}")
    lineage.remove_superseded(store, study, 1, 5)
    assert [c.iteration for c in lineage.checkpoints(store, study, 1)] == [5]
    newest = facts.checkpoint_prefix(study.id, 1, 5, 0)
    assert store.keys(prefix) == sorted([*foreign, newest + "manifest.json", newest + "state.json"])

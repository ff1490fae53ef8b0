"""Delete the checkpoints that a study no longer needs.

The rule is in race/decide/checkpoint_retention.py.
"""

from contextlib import suppress
from typing import Any

from liverseg.errors import NotFound
from liverseg.race.decide.checkpoint_retention import needed_reports, useless
from liverseg.race.decide.state import fold
from liverseg.race.records import facts
from liverseg.race.records.reports import read_report
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.race.records.study import Study
from liverseg.settings import BASELINE_SEED
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore


def prune(store: ObjectStore, study: Study, dry_run: bool = False) -> dict[str, Any]:
    """Delete what may go, or only say so; ready for JSON.

    Keys: `study`, `deleted` (prefixes), `kept` (how many), `bytes` (of what is deleted).
    """
    heartbeat = facts.read_heartbeat(store, study.id)
    snapshot = SnapshotReader(store, study.id).read()
    generation = heartbeat.generation if heartbeat else 0
    state = fold(study.rungs, study.settings.race, snapshot, generation)
    seeds = (*range(study.settings.race.seeds), BASELINE_SEED)
    saved = {seed: facts.checkpoints(store, study.id, seed) for seed in seeds}
    named = {read_report(store, study.id, key).checkpoint for key in needed_reports(state)}
    chosen = useless(state, saved, named)
    size = 0
    for checkpoint in chosen:
        # A trainer that runs meanwhile removes what it supersedes itself.
        with suppress(NotFound):
            files = bundle.manifest(store, checkpoint.prefix).files
            size += sum(file.bytes for file in files.values())
        if not dry_run:
            bundle.delete(store, checkpoint.prefix)
    return {
        "study": study.id,
        "deleted": [checkpoint.prefix for checkpoint in chosen],
        "kept": sum(map(len, saved.values())) - len(chosen),
        "bytes": size,
    }

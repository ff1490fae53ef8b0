"""Make a study larger: more seeds or longer trainings, with what the first one has trained.

The larger study is the one that would have been opened from the start: its id, its decisions and
its winner are the same. It takes over the parent's reports, and its trainers continue from the
parent's checkpoints; nothing is trained again whose checkpoint exists.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from liverseg.core.race.ledger import RungName
from liverseg.errors import SettingsError, StudyError
from liverseg.race.records import facts, lineage
from liverseg.race.records.key_forms import CURVE, named
from liverseg.race.records.reports import ReportKey, read_report, write_report
from liverseg.race.records.snapshot import SnapshotReader, read_failures
from liverseg.race.records.study import (
    Study,
    load_study,
    open_study,
    require_current,
    study_id,
    study_ids,
)
from liverseg.settings import BASELINE_SEED, Settings, from_mapping
from liverseg.storage import record
from liverseg.storage.port import ObjectStore


def run(
    store: ObjectStore,
    parent: str,
    seeds: int | None = None,
    maximum_iterations: int | None = None,
    clock: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """Open the larger study and return what it takes over, ready for JSON.

    Keys: `study`, `parent`, `new_seeds`, `reports` (how many are taken over) and `retrained`, a
    row for every seed whose checkpoint was collected though its report counts: `seed`, `reached`
    (iterations it had reported) and `from` (iteration of the newest checkpoint that is left).

    Raises SettingsError where nothing would become larger, StudyError where the parent is unknown
    or of another version.
    """
    old = load_study(store, parent)
    require_current(old)
    settings = _larger(old.settings, seeds, maximum_iterations)
    id_, nonce = study_id(settings, old.dataset), secrets.token_hex(4)
    child = Study(id_, settings, old.dataset, nonce, old.id)
    if child.id in study_ids(store) and load_study(store, child.id).parent != old.id:
        raise StudyError(
            f"study {child.id} of these settings is in the store already; run it instead"
        )
    snapshot = SnapshotReader(store, old.id).read()
    taken = [r for r in snapshot.reports if _holds(old, child, r.rung, r.seed)]
    for report in taken:
        write_report(store, child.id, read_report(store, old.id, report))
    for failure in read_failures(store, old.id):
        # A loss that was not finite would not be finite again.
        if failure.kind == "model" and _holds(old, child, failure.rung, failure.seed):
            record.write_new(store, failure.key(child.id), failure.to_mapping())
    _take_curves(store, old, child)
    # The spec comes last: a study whose taking over was cut short does not exist yet.
    open_study(store, settings, child.dataset, clock, old.id, nonce=lambda: nonce)
    return {
        "study": child.id,
        "parent": old.id,
        "new_seeds": child.settings.race.seeds - old.settings.race.seeds,
        "reports": len(taken),
        "retrained": _retrained(store, child, taken),
    }


def _larger(old: Settings, seeds: int | None, maximum: int | None) -> Settings:
    race = old.race
    wanted = replace(
        race,
        seeds=race.seeds if seeds is None else seeds,
        maximum_iterations=race.maximum_iterations if maximum is None else maximum,
    )
    for name in ("seeds", "maximum_iterations"):
        before, after = getattr(race, name), getattr(wanted, name)
        if after < before:
            raise SettingsError(f"race.{name} ({after}) must not be below the parent's ({before})")
    if wanted == race:
        raise SettingsError("nothing to extend: give more seeds or more iterations than before")
    return from_mapping({"race": asdict(wanted)}, old)


def _holds(old: Study, child: Study, rung: RungName, seed: int) -> bool:
    """Return whether what the parent says of a seed's rung is true of the child's, too."""
    index = len(old.rungs) - 1 if rung == "baseline" else rung
    child_index = len(child.rungs) - 1 if rung == "baseline" else rung
    iterations = old.rungs[index].iterations
    return (
        child_index < len(child.rungs)
        and child.rungs[child_index].iterations == iterations
        and lineage.same_so_far(old, child, seed, iterations)
    )


def _take_curves(store: ObjectStore, old: Study, child: Study) -> None:
    """Copy the validations, so that learning curves begin at the beginning."""
    before, after = facts.study_prefix(old.id), facts.study_prefix(child.id)
    for seed in (*range(old.settings.race.seeds), BASELINE_SEED):
        for key in store.keys(facts.curves_prefix(old.id, seed)):
            if lineage.same_so_far(old, child, seed, named(key, CURVE)["iteration"]):
                store.put_new(after + key.removeprefix(before), store.get(key))


def _retrained(store: ObjectStore, child: Study, taken: list[ReportKey]) -> list[dict[str, int]]:
    reached: dict[int, int] = {}
    for report in taken:
        iterations = child.rungs[-1 if report.rung == "baseline" else report.rung].iterations
        reached[report.seed] = max(reached.get(report.seed, 0), iterations)
    rows = []
    for seed, iterations in sorted(reached.items()):
        saved = lineage.checkpoints(store, child, seed)
        newest = max((s.iteration for s in saved), default=0)
        if newest < iterations:
            rows.append({"seed": seed, "reached": iterations, "from": newest})
    return rows

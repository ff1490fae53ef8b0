"""Which study a command is about: it shows the latest, and changes the only one that it can be."""

import time
from dataclasses import replace
from datetime import UTC, datetime

from liverseg.errors import SettingsError, StudyError
from liverseg.race.records import facts
from liverseg.race.records.study import Spec, load_study, require_known, study_ids
from liverseg.settings import Settings
from liverseg.steps.race.race import controller_state
from liverseg.storage import record
from liverseg.storage.port import ObjectStore


def latest_study(store: ObjectStore, settings: Settings | None = None) -> str:
    """Return the id of the study that a controller worked on, or that was opened, last.

    With `settings`, of the studies with these. Raises StudyError where the store has no study.
    """
    ids = study_ids(store)
    if settings is not None:
        alike = replace(settings, preset="")
        ids = [i for i in ids if replace(load_study(store, i).settings, preset="") == alike]
    if not ids:
        raise StudyError("the store has no study yet")
    return max(ids, key=lambda study: (_last_seen(store, study), study))


def _last_seen(store: ObjectStore, study: str) -> float:
    """Return the unix time of the heartbeat or, before the first one, of the opening."""
    opened = record.read(store, facts.spec_key(study), Spec).time
    heartbeat = facts.read_heartbeat(store, study)
    return opened if heartbeat is None else max(opened, heartbeat.time)


def study_to_change(store: ObjectStore, study: str | None) -> str:
    """Return the id of the study that a command is about which stops, extends or deletes.

    Without a name: the only study, or the only one that has no winner yet. Raises SettingsError,
    with a list of them, where there are several, and StudyError where there is none of that name.
    """
    if study is not None:
        require_known(store, study)
        return study
    ids = study_ids(store)
    if not ids:
        raise StudyError("the store has no study yet")
    alive = [id_ for id_ in ids if facts.read_result(store, id_) is None]
    if len(ids) == 1 or len(alive) == 1:
        return (alive or ids)[0]
    candidates, what = (alive, "without a winner") if alive else (ids, "with a winner")
    rows = "\n".join(f"  {_described(store, id_)}" for id_ in candidates)
    raise SettingsError(
        f"the store has {len(candidates)} studies {what}; say with --study which one:\n{rows}"
    )


def _described(store: ObjectStore, study: str) -> str:
    heartbeat = facts.read_heartbeat(store, study)
    ended = facts.read_result(store, study) is not None
    state = controller_state(heartbeat, facts.is_stopped(store, study), ended, time.time())
    if heartbeat is None:
        return f"{study}  {state}"
    heard = datetime.fromtimestamp(heartbeat.time, UTC).isoformat(timespec="seconds")
    return f"{study}  {state}, last heartbeat {heard}"

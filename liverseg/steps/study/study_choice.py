"""Which study a command changes: the one that is named, or the only one that it can be."""

from datetime import UTC, datetime

from liverseg.errors import SettingsError, StudyError
from liverseg.race.records import facts
from liverseg.race.records.study import require_known, study_ids
from liverseg.steps.race.race import controller_state
from liverseg.storage.port import ObjectStore


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
    state = controller_state(heartbeat, facts.is_stopped(store, study), ended)
    if heartbeat is None:
        return f"{study}  {state}"
    heard = datetime.fromtimestamp(heartbeat.time, UTC).isoformat(timespec="seconds")
    return f"{study}  {state}, last heartbeat {heard}"

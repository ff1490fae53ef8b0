"""Which study a command is about: it shows the latest, and changes the only one that it can be."""

import time
from datetime import UTC, datetime
from typing import Any

from liverseg.errors import IntegrityError, LiversegError, SettingsError, StudyError
from liverseg.race.records import facts
from liverseg.race.records.study import Spec, load_study, require_known, study_ids
from liverseg.settings import NOT_IN_IDS, Settings, to_mapping
from liverseg.steps.race.race import caching
from liverseg.storage import record
from liverseg.storage.port import ObjectStore
from liverseg.telemetry.study_state import controller_state


def latest_study(
    store: ObjectStore, settings: Settings | None = None, *, strict: bool = False
) -> str:
    """Return the id of the study that a controller worked on, or that was opened, last.

    With `settings`, of the studies with these. A study that cannot be read, such as one of another
    version of liverseg, is passed over; where no other is left, or with `strict`, its
    IntegrityError is raised. Raises StudyError where the store has no study.
    """
    store = caching(store)
    alike = None if settings is None else _hashed(settings)
    last_seen: dict[str, float] = {}
    unreadable: list[LiversegError] = []
    for study in study_ids(store):
        try:
            loaded = load_study(store, study)
            if alike is None or _hashed(loaded.settings) == alike:
                last_seen[study] = _last_seen(store, study)
        except (IntegrityError, StudyError) as error:  # StudyError: deleted meanwhile
            unreadable.append(error)
    if last_seen and not (strict and unreadable):
        return max(last_seen, key=lambda study: (last_seen[study], study))
    raise unreadable[0] if unreadable else StudyError("the store has no study yet")


def _hashed(settings: Settings) -> dict[str, Any]:
    """Return what of the settings is part of a study's id."""
    return {t: values for t, values in to_mapping(settings).items() if t not in NOT_IN_IDS}


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

"""The replay as a step: does everything that a race concluded follow from what was reported?"""

from dataclasses import asdict
from typing import Any

from liverseg.race.audit.replay import replay
from liverseg.race.records.study import require_known, study_ids
from liverseg.steps.study.study_choice import latest_study
from liverseg.storage.port import ObjectStore


def run(store: ObjectStore, study_id: str | None = None) -> dict[str, Any]:
    """Return what was checked of a study (default: the latest) and what differs; ready for JSON.

    Keys: `study`; `checked`, how many reports, promotions, files, ...; `findings`, each with the
    `key` of the fact and the `problem`: what it says, and what follows from the others.

    Raises StudyError where the store has no such study. Damaged facts raise nothing.
    """
    ids = study_ids(store)
    # Which of several is the latest, only their records say, which may be damaged.
    study = study_id or (ids[0] if len(ids) == 1 else latest_study(store, strict=True))
    require_known(store, study)
    done = replay(store, study)
    findings = [asdict(finding) for finding in done.findings]
    return {"study": study, "checked": done.checked, "findings": findings}

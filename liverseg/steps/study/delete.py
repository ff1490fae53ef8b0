"""Delete a study: its trainers end, then its jobs and its facts go.

The order is such that a run that was cut short leaves a study that is stopped and can be deleted
again: the spec, by which a study exists, goes after everything else, and until then nobody else
can run it. Only the heartbeat goes later, which counts for nothing without that spec's nonce.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from liverseg.errors import IntegrityError, NotFound, StudyError
from liverseg.platform.process_identity import is_dead, this_process
from liverseg.race.executors.port import Executor
from liverseg.race.records import facts
from liverseg.race.records.facts import Heartbeat
from liverseg.race.records.job import JobState, own_jobs
from liverseg.race.records.lease import Lease
from liverseg.race.records.study import Spec, Study, study_ids
from liverseg.steps.race.race import beating
from liverseg.storage import record
from liverseg.storage.bundle import MANIFEST, Manifest
from liverseg.storage.port import ObjectStore

# What belongs to no study: it is named by the hash of cases or weights.
SHARED = ("cases/", "datasets/", "predictions/", "segmentations/", "thresholds/", "votes/")
Progress = Callable[[str, int, int], None]


def run(
    store: ObjectStore,
    executor: Executor,
    study: Study,
    *,
    take_over: bool = False,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    poll_seconds: float = 0.5,
    waits: Callable[[Heartbeat], None] = lambda _: None,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Stop the study, wait until its controller and its trainers have ended, and delete it.

    Args:
        store: Where the study lies.
        executor: Knows the study's jobs.
        study: The one that goes.
        take_over: Fence a controller that runs the study, instead of waiting until it has stopped.
        clock: Unix time.
        monotonic: Seconds, by which another controller is seen to live or not.
        sleep: Waits the given seconds.
        poll_seconds: Between two looks at the trainers.
        waits: Told of a controller that is waited for.
        progress: Called with (what, done, total).

    Returns:
        `study`; `jobs` and `keys`, how many were deleted; `bytes` of its checkpoints and networks,
        without those whose manifest is damaged;
        `kept`, prefixes of the store that have something which other studies may use.

    Raises:
        StudyError: Another study extends this one, and its trainers continue from its checkpoints.
        StudyHeld: Its controller has not ended after ten minutes.
    """
    _require_no_children(store, study.id)
    lease = Lease(
        store, study, process=this_process(), clock=clock, monotonic=monotonic, is_dead=is_dead
    )
    facts.set_stopped(store, study.id, True, clock())
    with lease.released_at_the_end():
        lease.acquire(sleep, take_over, waits)
        lease.say("being deleted")
        with beating(lease.beat):
            jobs = _end_jobs(executor, study, lambda: sleep(poll_seconds), progress)
            _require_no_children(store, study.id)  # nobody may have extended it meanwhile
            keys = store.keys(facts.study_prefix(study.id))
            size = sum(_bytes(store, key) for key in keys if key.endswith("/" + MANIFEST))
            last = (facts.stops_prefix(study.id), facts.spec_key(study.id))
            heartbeat = facts.heartbeat_key(study.id)
            first = [key for key in keys if key != heartbeat and not key.startswith(last)]
            # Manifests first, so that what is left of a bundle never counts.
            _delete(store, sorted(first, key=lambda k: not k.endswith("/" + MANIFEST)), progress)
        for key in (*store.keys(last[0]), last[1]):
            store.delete(key)
        # Whoever has opened the study anew may hold it already.
        if lease.is_mine():
            store.delete(heartbeat)
    return {
        "study": study.id,
        "jobs": jobs,
        "keys": len(keys),
        "bytes": size,
        "kept": [prefix for prefix in SHARED if store.keys(prefix)],
    }


def _require_no_children(store: ObjectStore, study: str) -> None:
    children = [other for other in study_ids(store) if _parent(store, other) == study]
    if children:
        raise StudyError(
            f"study {study} cannot be deleted: {', '.join(children)} extends it and continues "
            "from its checkpoints; delete that one first"
        )


def _parent(store: ObjectStore, study: str) -> str | None:
    # A study whose spec is damaged or gone cannot be run, so it needs no checkpoints.
    with suppress(IntegrityError, NotFound):
        return record.read(store, facts.spec_key(study), Spec).parent
    return None


def _end_jobs(
    executor: Executor, study: Study, wait: Callable[[], None], progress: Progress
) -> int:
    """Cancel what runs, wait until it has ended, and delete all; return how many there were."""
    while True:
        mine = _jobs(executor, study)
        running = [state.name for state in mine if state.running]
        progress("trainers ended", len(mine) - len(running), len(mine))
        if not running:
            break
        for name in running:
            executor.cancel(name)
        wait()
    for done, state in enumerate(mine, 1):
        executor.remove(state.name)
        progress("jobs deleted", done, len(mine))
    return len(mine)


def _jobs(executor: Executor, study: Study) -> list[JobState]:
    return list(own_jobs(study, executor.states()).values())


def _bytes(store: ObjectStore, manifest: str) -> int:
    # The bundle of a damaged manifest is deleted all the same; its size is only reported.
    with suppress(IntegrityError):
        return sum(file.bytes for file in record.read(store, manifest, Manifest).files.values())
    return 0


def _delete(store: ObjectStore, keys: Iterable[str], progress: Progress) -> None:
    listed = list(keys)
    for done, key in enumerate(listed, 1):
        store.delete(key)
        progress("files deleted", done, len(listed))

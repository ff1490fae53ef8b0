"""A crash at every write: one race for each write, whose writer is killed before or after it.

    python -m tests.crash_sweep [--simulated N|all] [--real N|all] [--processes 2]

Simulated: 16 seeds to 80,000 iterations in virtual time. Real: 4 seeds of a tiny network, three
rungs, two checkpoints a rung, trainers and controller in processes of their own that die by
SIGKILL. Every race has to end as the undisturbed one did.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch._dynamo  # noqa: F401 - the first optimiser imports it, a second for every fork
from rich.progress import track

from liverseg.race.controller import Controller
from liverseg.race.decide import cost
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.executors.process import ProcessExecutor
from liverseg.race.records import facts
from liverseg.race.records.decisions import Decision
from liverseg.race.records.job import Job
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.race.records.study import Study, load_study, study_ids
from liverseg.settings import Settings, from_mapping
from liverseg.storage import record
from liverseg.storage.folder import FolderStore
from liverseg.storage.port import ObjectStore
from tests.race.fault_script import Crash
from tests.race.rehearsal import Rehearsal
from tests.steps.tiny_study import SETTINGS, study_in

# A write's number, and whether its writer dies before it (False: after it).
Point = tuple[int, bool]
Outcome = tuple[tuple[tuple[int, ...], ...], str]
REAL = from_mapping(
    {"race": {"seeds": 4, "minimum_iterations": 4, "maximum_iterations": 12}}, SETTINGS
)
SECONDS = 120.0


def outcome(store: ObjectStore, study: Study) -> Outcome:
    """Who was promoted at every rung and the winner's weights; the ledger has to add up."""
    result = facts.read_result(store, study.id)
    assert result is not None, "no winner"
    keys = [
        key for key in store.keys(f"studies/{study.id}/rungs/") if key.endswith("/decision.json")
    ]
    promoted = tuple(record.read(store, k, Decision).promoted for k in keys)
    snapshot = SnapshotReader(store, study.id).read()
    ledger = cost.ledger(study, snapshot)
    outcomes = sum(ledger[o]["seconds"] for o in ("useful", "repeated", "pruned", "startup"))
    assert outcomes == pytest.approx(snapshot.spent_seconds), "the ledger does not add up"
    assert ledger["useful"]["iterations"] == ledger["planned_iterations"], "useful iterations"
    return promoted, result.weights_sha256


def simulated(point: Point | None) -> tuple[Outcome, int]:
    """Return the outcome of a simulated race and its number of writes."""
    rehearsal = Rehearsal(settings=Settings(), score=None, gpus=4)
    store, first = rehearsal.store, rehearsal.store.writes
    written: dict[str, bytes] = {}

    def die(number: int, key: str, before: bool) -> None:
        if not before and not key.endswith("heartbeat.json") and key in store.objects:
            data = store.objects[key]
            assert written.setdefault(key, data) == data, f"{key} was written twice"
        if (number - first, before) == point:
            raise Crash

    store.before_write = partial(die, before=True)
    store.after_write = partial(die, before=False)
    for _ in range(3):
        try:
            rehearsal.run()
        except Crash:
            continue
        return outcome(store, rehearsal.study), store.writes - first
    raise AssertionError("killed more than once")


class MortalStore(FolderStore):
    """A folder store whose writers count their writes together; one of them is killed."""

    def __init__(self, root: Path, count: Path, point: Point | None) -> None:
        super().__init__(root)
        self._count, self._point = count, point

    def put(self, key: str, data: bytes) -> None:
        path = self.root / key
        if not key.endswith("heartbeat.json") and path.exists() and path.read_bytes() != data:
            self._count.with_name("changed").write_text(key)
        with self._dying():
            super().put(key, data)

    def put_new(self, key: str, data: bytes) -> bool:
        with self._dying():
            return super().put_new(key, data)

    def delete(self, key: str) -> None:
        with self._dying():
            super().delete(key)

    def _dying(self) -> "_Dying":
        # One byte a write, appended by all processes: its position is the write's number.
        descriptor = os.open(self._count, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, b".")
        number = os.lseek(descriptor, 0, os.SEEK_CUR) - 1
        os.close(descriptor)
        return _Dying(number, self._point)


class _Dying:
    def __init__(self, number: int, point: Point | None) -> None:
        self._number, self._point = number, point

    def __enter__(self) -> None:
        self._perhaps(True)

    def __exit__(self, *_: object) -> None:
        self._perhaps(False)

    def _perhaps(self, before: bool) -> None:
        if (self._number, before) == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


class Child:
    """A forked process, as ProcessExecutor looks at one."""

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def forked(work: Callable[[], int]) -> Child:
    """Run `work` in a process of its own; forked, since importing torch takes seconds."""
    pid = os.fork()
    if pid:
        return Child(pid)
    code = 1
    try:
        os.setsid()
        code = work()
    except BaseException:  # noqa: BLE001 - whatever it is, the child must not live on as its parent
        traceback.print_exc()
    finally:
        os._exit(code)


class ForkingExecutor(ProcessExecutor):
    """The executor of processes, whose trainers are forked and write to a mortal store."""

    def __init__(self, work: Path, store: MortalStore) -> None:
        super().__init__(work, ())
        self._store = store

    def _start(self, job: Job, folder: Path, lock: object, options: object) -> Child:
        def train() -> int:
            from liverseg.steps.training import train as step

            (folder / "pid").write_text(str(os.getpid()))
            names = (job.study, job.seed, job.at.rung, job.attempt)
            return step.run(self._store, *names, orphan_grace=SECONDS, now=time.time)

        return forked(train)


def real(point: Point | None) -> tuple[Outcome, int]:
    """Return the outcome of a race of real trainings and its number of writes."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        study_in(FolderStore(folder / "store"), REAL)
        store = MortalStore(folder / "store", folder / "count", point)
        (id_,) = study_ids(store)

        def control() -> int:
            executor = ForkingExecutor(folder / "work", store)
            study = load_study(store, id_)
            Controller(store, executor, study, Capacity(2, False), poll_seconds=0.02).run("end")
            return 0

        codes = []
        for _ in range(2):
            child = forked(control)
            wait(child)
            codes.append(child.returncode)
            if child.returncode == 0:
                break
        assert codes in ([0], [-9, 0]), f"the controller ended with {codes}"
        changed = folder / "changed"
        assert not changed.exists(), f"{changed.read_text()} was written twice"
        writes = (folder / "count").stat().st_size
        return outcome(store, load_study(store, id_)), writes
    finally:
        shutil.rmtree(folder)


def wait(child: Child) -> None:
    end = time.monotonic() + SECONDS
    while child.poll() is None:
        if time.monotonic() > end:
            os.kill(child.pid, signal.SIGKILL)
        time.sleep(0.01)


KINDS: dict[str, Callable[[Point | None], tuple[Outcome, int]]] = {
    "simulated": simulated,
    "real": real,
}


@lru_cache
def undisturbed(kind: str) -> tuple[Outcome, int]:
    """Return the outcome without a crash, and how many writes it takes."""
    return KINDS[kind](None)


def points(kind: str, sample: int | None) -> list[Point]:
    """Return all points of the race, or `sample` of them, always the same."""
    writes = undisturbed(kind)[1]
    every = [(number, before) for number in range(writes) for before in (True, False)]
    if sample is None or sample >= len(every):
        return every
    return sorted(random.Random(writes).sample(every, sample))


def problem(kind: str, point: Point) -> str | None:
    """Run one race; return what is wrong with it."""
    where = f"{kind} race, killed {'before' if point[1] else 'after'} write {point[0]}"
    try:
        result = KINDS[kind](point)[0]
    except AssertionError as error:
        return f"{where}: {error}"
    if result != undisturbed(kind)[0]:
        return f"{where}: {result} instead of {undisturbed(kind)[0]}"
    return None


def sweep(kind: str, sample: int | None, processes: int) -> Iterator[str | None]:
    chosen = points(kind, sample)
    # Workers are forked afresh from a process that has imported everything and computed nothing.
    with ProcessPoolExecutor(processes, mp_context=get_context("forkserver")) as pool:
        outcomes = pool.map(partial(problem, kind), chosen, chunksize=4)
        yield from track(outcomes, f"{kind}: a crash at each of {len(chosen)} points", len(chosen))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    for kind in KINDS:
        options.add_argument(f"--{kind}", default="all", help="how many points, or all")
    options.add_argument("--processes", type=int, default=2)
    chosen = vars(options.parse_args())
    problems = []
    for kind in KINDS:
        start = time.monotonic()
        sample = None if chosen[kind] == "all" else int(chosen[kind])
        outcomes = list(sweep(kind, sample, chosen["processes"]))
        wrong = [text for text in outcomes if text is not None]
        problems += wrong
        (_, weights), writes = undisturbed(kind)
        print(
            f"{kind}: {writes} writes, {len(outcomes)} races, {len(wrong)} ended differently, "
            f"{time.monotonic() - start:.0f} s; winner's weights {weights}"
        )
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

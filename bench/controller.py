"""What the controller costs when the race is large and long: requests to the store, and CPU time.

Simulated races; the store counts its requests, a LIST once per 1,000 keys as S3 answers it. Exits 1
where a bound is exceeded.

    python bench/controller.py [--seeds 1000] [--looks 10]
"""

import argparse
import statistics
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from liverseg.core.data.dataset import CaseRecord, Dataset
from liverseg.race.controller import Controller
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.records.study import Study, open_study
from liverseg.settings import from_mapping
from liverseg.simulation.simulated_executor import SimulatedExecutor
from liverseg.storage.folder import FolderStore
from liverseg.storage.memory import MemoryStore
from liverseg.storage.port import ObjectStore

FIRST_SECONDS, WARM_SECONDS, PEAK_MB = 2.0, 0.05, 100.0
END_CALLS, AFTER_RUNG_0_CALLS, WARM_CALLS = 40, 300, 20
REQUEST_SECONDS, PAGE = 0.075, 1000
GPUS = 16


class CountingStore(MemoryStore):
    """A store that counts its requests by verb."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__()
        self.objects = dict(objects)
        self.calls: Counter[str] = Counter()

    def put(self, key: str, data: bytes) -> None:
        self.calls["PUT"] += 1
        super().put(key, data)

    def put_new(self, key: str, data: bytes) -> bool:
        self.calls["PUT"] += 1
        return super().put_new(key, data)

    def get(self, key: str) -> bytes:
        self.calls["GET"] += 1
        return super().get(key)

    def keys(self, prefix: str) -> list[str]:
        keys = super().keys(prefix)
        self.calls["LIST"] += max(1, -(-len(keys) // PAGE))
        return keys


class Race:
    """A simulated race of some seeds that has come to some rung."""

    def __init__(self, seeds: int, gpus: int, maximum: int = 256_000) -> None:
        race = {"seeds": seeds, "minimum_iterations": 5000, "maximum_iterations": maximum}
        files = ("c", "c", "training", "k", ("R1",), {}, (1, 1, 1), (1.0, 1.0, 1.0), True)
        self.store = MemoryStore()
        dataset = Dataset((CaseRecord(*files),))
        self.study: Study = open_study(self.store, from_mapping({"race": race}), dataset)
        self.executor = SimulatedExecutor(self.store, self.study)
        self.capacity = Capacity(gpus, False)

    def run(self, until: int | str) -> "Race":
        self.controller(self.store).run(until)
        return self

    def controller(self, store: ObjectStore) -> Controller:
        clock, sleep = self.executor.clock, self.executor.wait
        return Controller(
            store,
            self.executor,
            self.study,
            self.capacity,
            clock=clock,
            monotonic=clock,
            sleep=sleep,
            # Many jobs end between two looks: the race is only the way to the facts.
            poll_seconds=5000.0,
        )

    def taken_over(self, store: ObjectStore) -> Controller:
        controller = self.controller(store)
        controller.lease.acquire(time.sleep, take_over=True)
        return controller


def stored(objects: dict[str, bytes], root: Path) -> FolderStore:
    """Write the objects as a folder store has them, without waiting for the disk at each."""
    for key, data in objects.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return FolderStore(root)


def seconds_of(work: Controller) -> float:
    start = time.process_time()
    work.reconcile("end")
    return time.process_time() - start


def first_calls(race: Race) -> Counter[str]:
    """Requests of a new controller's first look, taking the lease included."""
    store = CountingStore(race.store.objects)
    race.taken_over(store).reconcile("end")
    return store.calls


def warm_calls(race: Race) -> Counter[str]:
    """Requests of a look that finds nothing new, while all trainers run."""
    store = CountingStore(race.store.objects)
    controller = race.taken_over(store)
    controller.reconcile("end")
    store.calls.clear()
    controller.reconcile("end")
    return store.calls


def counted(seeds: int) -> dict[str, bool]:
    bounds = {}
    running = Race(seeds, gpus=seeds)
    controller = running.taken_over(running.store)
    while not running.executor.states():
        controller.reconcile("end")
    for _ in range(9):  # of the ten validations before rung 0; the last one ends a trainer
        running.executor.sleep(500)
        controller.reconcile("end")
    for name, calls, bound in (
        ("first look at the end of a 16-seed race", first_calls(Race(16, 4, 80_000).run("end")),
         END_CALLS),
        (f"first look with {seeds:,} seeds after rung 0", first_calls(Race(seeds, GPUS).run(0)),
         AFTER_RUNG_0_CALLS),
        (f"warm look with {seeds:,} running trainers", warm_calls(running), WARM_CALLS),
    ):  # fmt: skip
        total, verbs = sum(calls.values()), ", ".join(f"{n} {v}" for v, n in sorted(calls.items()))
        seconds = f"{total * REQUEST_SECONDS:.1f} s at 75 ms each"
        print(f"{name}: {total} requests ({verbs}), {seconds}", flush=True)
        bounds[f"{name}: at most {bound} requests"] = total <= bound
    return bounds


def timed(seeds: int, looks: int) -> dict[str, bool]:
    start = time.perf_counter()
    race = Race(seeds, GPUS)
    race.run(len(race.study.rungs) - 2)
    memory = race.store
    print(f"simulated race of {seeds} seeds: {time.perf_counter() - start:.1f} s", flush=True)
    facts = sum(key.split("/")[2] == "rungs" for key in memory.objects)
    old = sum("/checkpoints/" in key for key in memory.objects)
    with TemporaryDirectory() as folder:
        store = stored(memory.objects, Path(folder) / "all")
        measured = race.taken_over(store)
        first = seconds_of(measured)
        warm = statistics.median(seconds_of(measured) for _ in range(looks))
        without = {k: v for k, v in memory.objects.items() if "/checkpoints/" not in k}
        bare = race.taken_over(stored(without, Path(folder) / "bare"))
        seconds_of(bare)
        fewer = statistics.median(seconds_of(bare) for _ in range(looks))
        traced = race.taken_over(store)
        tracemalloc.start()
        traced.reconcile("end")
        traced.reconcile("end")
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    print(f"{facts:,} facts, {old:,} objects of checkpoints")
    print(f"first look {first * 1000:.0f} ms of CPU, warm {warm * 1000:.1f} ms, peak {peak:.1f} MB")
    print(f"warm look without any checkpoint in the store {fewer * 1000:.1f} ms of CPU")
    return {
        f"first look under {FIRST_SECONDS:.0f} s of CPU": first < FIRST_SECONDS,
        f"warm look under {WARM_SECONDS * 1000:.0f} ms of CPU": warm < WARM_SECONDS,
        f"peak under {PEAK_MB:.0f} MB": peak < PEAK_MB,
        "superseded checkpoints cost nothing": warm < 1.5 * fewer,
        "at least 10,000 facts": facts >= 10_000,
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=1000)
    options.add_argument("--looks", type=int, default=10)
    chosen = options.parse_args()
    bounds = counted(chosen.seeds) | timed(chosen.seeds, chosen.looks)
    for bound, kept in bounds.items():
        print(f"{'ok    ' if kept else 'BROKEN'} {bound}")
    return 0 if all(bounds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

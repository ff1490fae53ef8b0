"""What one turn of the controller costs when the race is large and long.

A simulated race of 1,000 seeds, most of it over, in a folder store. Exits 1 where a promise is
broken.

    python bench/controller.py [--seeds 1000] [--turns 10]
"""

import argparse
import statistics
import sys
import time
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

from liverseg.core.data.dataset import CaseRecord, Dataset
from liverseg.race.controller import Controller
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.executors.simulated import SimulatedExecutor
from liverseg.race.records.study import Study, open_study
from liverseg.settings import from_mapping
from liverseg.storage.folder import FolderStore
from liverseg.storage.memory import MemoryStore

FIRST_SECONDS, WARM_SECONDS, PEAK_MB = 2.0, 0.05, 100.0
GPUS = 16
KINDS = "reports", "failures", "promotions", "decisions", "spans"


def raced(seeds: int) -> tuple[MemoryStore, SimulatedExecutor, Study]:
    """Return a race that has come to its second-last rung, so that much lies behind it."""
    race = {"seeds": seeds, "minimum_iterations": 500, "maximum_iterations": 256_000}
    record = CaseRecord("c", "c", "training", "k", ("R1",), {}, (1, 1, 1), (1.0, 1.0, 1.0), True)
    store = MemoryStore()
    study = open_study(store, from_mapping({"race": race}), Dataset((record,)))
    executor = SimulatedExecutor(store, study)
    controller = Controller(
        store, executor, study, Capacity(GPUS, False), clock=executor.clock, sleep=executor.wait
    )
    controller.run(len(study.rungs) - 2)
    return store, executor, study


def stored(objects: dict[str, bytes], root: Path) -> FolderStore:
    """Write the objects as a folder store has them, without waiting for the disk at each."""
    for key, data in objects.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return FolderStore(root)


def seconds_of(work: Controller) -> float:
    start = time.perf_counter()
    work.reconcile("end")
    return time.perf_counter() - start


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=1000)
    options.add_argument("--turns", type=int, default=10)
    chosen = options.parse_args()
    start = time.perf_counter()
    memory, executor, study = raced(chosen.seeds)
    print(f"simulated race of {chosen.seeds} seeds: {time.perf_counter() - start:.1f} s")
    facts = sum(key.split("/")[2] in KINDS for key in memory.objects)
    old = sum("/checkpoints/" in key for key in memory.objects)

    def controller(store: FolderStore) -> Controller:
        made = Controller(store, executor, study, Capacity(GPUS, False), clock=executor.clock)
        made.take_over()
        return made

    with TemporaryDirectory() as folder:
        store = stored(memory.objects, Path(folder) / "all")
        measured = controller(store)
        first = seconds_of(measured)
        warm = statistics.median(seconds_of(measured) for _ in range(chosen.turns))
        without = {k: v for k, v in memory.objects.items() if "/checkpoints/" not in k}
        bare = controller(stored(without, Path(folder) / "bare"))
        seconds_of(bare)
        fewer = statistics.median(seconds_of(bare) for _ in range(chosen.turns))
        traced = controller(store)
        tracemalloc.start()
        traced.reconcile("end")
        traced.reconcile("end")
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    print(f"{facts:,} facts, {old:,} objects of checkpoints")
    print(f"first turn {first * 1000:.0f} ms, warm turn {warm * 1000:.1f} ms, peak {peak:.1f} MB")
    print(f"warm turn without any checkpoint in the store {fewer * 1000:.1f} ms")
    promises = {
        f"first turn under {FIRST_SECONDS:.0f} s": first < FIRST_SECONDS,
        f"warm turn under {WARM_SECONDS * 1000:.0f} ms": warm < WARM_SECONDS,
        f"peak under {PEAK_MB:.0f} MB": peak < PEAK_MB,
        "superseded checkpoints cost nothing": warm < 1.5 * fewer,
        "at least 10,000 facts": facts >= 10_000,
    }
    for promise, kept in promises.items():
        print(f"{'ok    ' if kept else 'BROKEN'} {promise}")
    return 0 if all(promises.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

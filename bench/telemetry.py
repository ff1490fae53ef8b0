"""What the metrics cost: a scrape, a reconcile, a training step.

A scrape of a folder with many studies of 16 seeds, two of which still run, and of one race of 1,000
seeds; what a reconcile and an iteration take more than without metrics. Exits 1 where a bound is
exceeded.

    python bench/telemetry.py [--studies 100]
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from controller import Race, stored
from prometheus_client.openmetrics.exposition import generate_latest

from liverseg.race.records.job import Attempt
from liverseg.storage.folder import FolderStore
from liverseg.storage.port import ObjectStore
from liverseg.telemetry.measured_controller import ControllerMetrics
from liverseg.telemetry.study_collector import StudyCollector
from liverseg.telemetry.trainer_metrics import TrainerMetrics

SCRAPE_SECONDS, RECONCILE_SECONDS, STEP_SHARE = 0.5, 0.005, 0.01
# As in monitoring/prometheus.yml.
SCRAPE_INTERVAL = 15
# A step of the preset `small` on a GPU; on two cores it takes ten times as long.
STEP_SECONDS = 0.07


def many_studies(root: Path, studies: int) -> tuple[FolderStore, float]:
    """Write copies of an ended race and, the last two, of one that runs; return its time."""
    ended, running = Race(16, 4, 80_000).run("end"), Race(16, 4, 80_000).run(1)
    objects: dict[str, bytes] = {}
    for number in range(studies):
        race = ended if number < studies - 2 else running
        prefix = f"studies/{race.study.id}/"
        for key, data in race.store.objects.items():
            if "/curves/" in key or "/checkpoints/" in key:
                continue  # nothing of these is read
            objects[key.replace(prefix, f"studies/{number:012x}/")] = data
    return stored(objects, root), running.executor.now


def scrape(store: ObjectStore, now: float, name: str) -> dict[str, bool]:
    """Measure the first scrape of a store and those of the next two minutes, in CPU time."""
    seconds, at = [], [0]
    collector = StudyCollector(store, clock=lambda: now, monotonic=lambda: at[0])
    for at[0] in range(0, 120, SCRAPE_INTERVAL):
        start = time.process_time()
        text = generate_latest(collector)
        seconds.append(time.process_time() - start)
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    first, *warm = (1000 * value for value in seconds)
    print(
        f"{name}: first scrape {first:.0f} ms, then {max(warm):.0f} ms; {series:,} series",
        flush=True,
    )
    return {f"{name}: warm below {SCRAPE_SECONDS} s": max(warm) < 1000 * SCRAPE_SECONDS}


def reconciles(measured: bool) -> float:
    """Return the seconds of a reconcile that finds nothing new."""
    race = Race(16, 4, 80_000).run(1)
    controller = race.controller(race.store)
    if measured:
        metrics = ControllerMetrics(StudyCollector(race.store, race.study.id))
        clock, options = race.executor.clock, {"sleep": race.executor.wait}
        arguments = race.store, race.executor, race.study, race.capacity
        controller = metrics.controller(*arguments, clock=clock, monotonic=clock, **options)
    controller.lease.acquire(time.sleep, take_over=True)
    return median(seconds_of(lambda: controller.reconcile("end")) for _ in range(50))


def iteration() -> float:
    """Return the seconds that it takes to note an iteration."""
    metrics = TrainerMetrics("study", Attempt(0, 0, 0), time.time)

    class Pace:
        loss_sum, iterations, seconds, timed, waited = 0.0, 0, 0.0, 0, 0.0

    pace, noted = Pace(), 10_000

    def note() -> None:
        for _ in range(noted):
            pace.timed += 1
            pace.iterations += 1
            pace.seconds += 0.07
            metrics.iterated(pace)

    return seconds_of(note) / noted


def seconds_of(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--studies", type=int, default=100)
    chosen = options.parse_args()
    bounds: dict[str, bool] = {}
    with TemporaryDirectory() as folder:
        store, now = many_studies(Path(folder), chosen.studies)
        bounds |= scrape(store, now, f"{chosen.studies} studies")
    large = Race(1000, 16, 10_000).run(0)
    bounds |= scrape(large.store, large.executor.now, "1,000 seeds after rung 0")
    plain, measured = reconciles(False), reconciles(True)
    print(f"a reconcile: {1000 * plain:.1f} ms, measured {1000 * measured:.1f} ms", flush=True)
    bounds[f"a reconcile: at most {RECONCILE_SECONDS} s more"] = (
        measured - plain < RECONCILE_SECONDS
    )
    share = iteration() / STEP_SECONDS
    print(f"an iteration: {share:.3%} of a step of {STEP_SECONDS} s")
    bounds[f"an iteration: at most {STEP_SHARE:.0%}"] = share < STEP_SHARE
    for name, kept in bounds.items():
        print(f"{'ok' if kept else 'EXCEEDED'}: {name}")
    return 0 if all(bounds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

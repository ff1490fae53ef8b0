"""What large inputs take: seconds and memory, each in a process of its own.

Used by evaluation.py and training.py. Alone, it prints one measurement as JSON:

    python bench/scale.py lesions | threshold | report | trainer
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from synthetic import SHAPE, SPACING_MM, ellipsoid, study

from liverseg.storage.folder import FolderStore

LESION_SECONDS, LESION_MB = 30.0, 2000.0
THRESHOLD_SECONDS, THRESHOLD_MB = 120.0, 1000.0
REPORT_MB = 15.0
TRAINER_MB = 3000.0
Values = dict[str, float]


@dataclass
class Used:
    """What a block of code took."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    """Of the whole process, imports included; MB are 2^20 bytes here."""
    added_mb: float = 0.0
    """Beyond what the process had before."""


@contextmanager
def used() -> Iterator[Used]:
    """Measure a block of code."""
    result = Used()
    with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:
        refs.write("5")  # the peak is counted anew
    before, wall, cpu = status_mb("VmRSS"), time.perf_counter(), time.process_time()
    yield result
    result.seconds = time.perf_counter() - wall
    result.cpu_seconds = time.process_time() - cpu
    result.peak_mb = status_mb("VmHWM")
    result.added_mb = result.peak_mb - before


def status_mb(field: str) -> float:
    """Return a field of this process's status in MB."""
    with open("/proc/self/status", encoding="ascii") as status:
        (line,) = (line for line in status if line.startswith(field))
    return int(line.split()[1]) / 1024


def lesions() -> Values:
    """Evaluate one case with over 100,000 lesions of one voxel on each side, and write the JSON."""
    from liverseg.core.evaluation.case import evaluate_case
    from liverseg.core.evaluation.delineation import Delineation

    rng = np.random.default_rng(0)
    grid = np.zeros((100, 200, 200), bool)
    grid[::2, ::2, ::2] = True
    reference, predicted = (grid & (rng.random(grid.shape) < 0.25) for _ in range(2))
    with used() as result:
        drawn, theirs = (Delineation.of(mask, SPACING_MM) for mask in (predicted, reference))
        entry = evaluate_case("one", {"R1": theirs}, {"A1": drawn})
        size = len(json.dumps(entry, indent=1))
    counts = {"predicted": len(drawn.lesions), "references": len(theirs.lesions)}
    return vars(result) | counts | {"json_mb": size / 1e6}


def threshold() -> Values:
    """Fit the threshold of 58 cases, then read it as another study of these cases does."""
    from liverseg.steps.results import threshold_baseline

    with TemporaryDirectory() as folder:
        store = FolderStore(Path(folder))
        dataset = study(store, {"training": 58}).dataset
        with used() as first:
            fitted = threshold_baseline.of_dataset(store, dataset, "R1")
        with used() as again:
            same = threshold_baseline.of_dataset(store, dataset, "R1") == fitted
    return vars(first) | {"again_seconds": again.seconds, "same": same}


def report() -> Values:
    """Draw the pictures of 19 test cases: nearly all that a report consists of."""
    from liverseg.reporting import figures
    from liverseg.steps.data.cases import SEGMENTATION_FILE, segmentation_prefix
    from liverseg.steps.report import report_figures
    from liverseg.storage import bundle

    with TemporaryDirectory() as folder:
        store = FolderStore(Path(folder))
        # Lesions in 32 of the 80 slices.
        cases = study(store, {"test": 19}, lesion_radius=0.2).dataset.cases
        weights = {"multi": "a" * 64, "baseline": "b" * 64}
        for shift, sha256 in enumerate(weights.values()):
            for key in {case.key for case in cases}:
                bundle.commit(
                    store,
                    segmentation_prefix(sha256, key),
                    {SEGMENTATION_FILE: _segmentation(Path(folder), 4 * shift)},
                )
        arms = {
            arm: {
                "weights_sha256": sha256,
                "cases": {case.name: {"dice": {"R1": 0.5}} for case in cases},
            }
            for arm, sha256 in weights.items()
        }
        size = 0
        with used() as result:
            for number, case in enumerate(cases):
                pictures = report_figures.pictures(store, case, {"arms": arms}, "auto")
                size += len(pictures["all"])
                # Figure 3 has the best, the median and the worst case.
                size += len(figures.slices_uri(pictures["figure"])) if number < 3 else 0
    return vars(result) | {"page_mb": size / 1e6}


def _segmentation(folder: Path, shift: int) -> bytes:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.roll(ellipsoid(SHAPE, 0.19), shift, axis=2).astype(np.uint8))
    image.SetSpacing(SPACING_MM[::-1])
    path = folder / "segmentation.nii.gz"
    sitk.WriteImage(image, str(path))
    return path.read_bytes()


def trainer() -> Values:
    """Load 58 training and 5 validation cases as a trainer does, and draw a patch."""
    import torch

    from liverseg.network.training import Training
    from liverseg.steps.data.cases import load_labelled, load_training

    with TemporaryDirectory() as folder:
        store = FolderStore(Path(folder))
        opened = study(store, {"training": 58, "validation": 5})
        rater = opened.settings.data.training_rater
        with used() as result:
            training = Training(
                opened.settings,
                0,
                (load_training(store, c.key, rater) for c in opened.dataset.role("training")),
                {
                    c.name: load_labelled(store, c.key, rater)
                    for c in opened.dataset.role("validation")
                },
                torch.device("cpu"),
            )
            training.sampler.patch(0)
        images = 58 * np.prod(SHAPE) * 4 / 2**20
    return vars(result) | {"images_mb": float(images), "rss_mb": status_mb("VmRSS")}


SCENES: dict[str, Callable[[], Values]] = {
    "lesions": lesions,
    "threshold": threshold,
    "report": report,
    "trainer": trainer,
}


def alone(name: str) -> Values:
    """Return what a scene takes, measured in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, name], stdout=subprocess.PIPE, text=True, check=True
    )
    values: Values = json.loads(done.stdout.splitlines()[-1])
    print(f"{name:10} " + "  ".join(f"{key} {value:.5g}" for key, value in values.items()))
    return values


def evaluation_promises() -> dict[str, bool]:
    """Return what is promised of large evaluations, and whether it is kept."""
    many, fit, page = alone("lesions"), alone("threshold"), alone("report")
    return {
        f"100,000 lesions a side within {LESION_SECONDS:.0f} s of CPU: "
        f"{many['cpu_seconds']:.1f} s": (
            many["cpu_seconds"] <= LESION_SECONDS
            and min(many["predicted"], many["references"]) >= 100_000
        ),
        f"and {LESION_MB:.0f} MB: {many['peak_mb']:.0f} MB": many["peak_mb"] <= LESION_MB,
        f"the threshold of 58 cases within {THRESHOLD_SECONDS:.0f} s on two idle cores: "
        f"{fit['seconds']:.0f} s": fit["seconds"] <= THRESHOLD_SECONDS,
        f"and at once the second time: {fit['again_seconds']:.3f} s": (
            bool(fit["same"]) and fit["again_seconds"] < 1
        ),
        f"and {THRESHOLD_MB:.0f} MB: {fit['peak_mb']:.0f} MB": fit["peak_mb"] <= THRESHOLD_MB,
        f"a report of 19 cases below {REPORT_MB:.0f} MB (10^6 bytes): {page['page_mb']:.1f} MB": (
            page["page_mb"] <= REPORT_MB
        ),
    }


def training_promises() -> dict[str, bool]:
    """Return what is promised of a trainer's memory, and whether it is kept."""
    loaded = alone("trainer")
    return {
        f"a trainer of 58 + 5 cases stays below {TRAINER_MB:.0f} MB, besides the training images, "
        f"{loaded['images_mb']:.0f} MB of temporary disk: {loaded['peak_mb']:.0f} MB": (
            loaded["peak_mb"] <= TRAINER_MB
        )
    }


if __name__ == "__main__":
    print(json.dumps(SCENES[sys.argv[1]]()))

"""How fast and how lean an evaluation is, beside MONAI and panoptica in the same run.

One synthetic 512 x 512 x 80 pair with 40 lesions each. Every contestant gets the masks in
memory, in a process of its own; the best of some runs counts. MONAI and panoptica compute what
they share with us: Dice, Jaccard, HD, HD95 and ASSD of the whole masks. Panoptica wants other
versions of packages and may live in an environment of its own. After that what large inputs take
(scale.py): 100,000 lesions a side, the threshold of 58 cases, the report of 19. Exits 1 where a
promise is broken.

    python bench/evaluation.py [--panoptica PYTHON] [--runs 3] [--scale-only]
"""

import argparse
import json
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scale

SHAPE, SPACING_MM, LESIONS = (80, 512, 512), (3.0, 0.8, 0.8), 40
FASTER = 3.0
SHARED = ("dice", "jaccard", "hd_mm", "hd95_mm", "assd_mm")
Values = dict[str, float]


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Ellipsoids of 5 to 25 mm in a liver-sized part of the volume; the other's are redrawn."""
    rng = np.random.default_rng(0)
    masks = np.zeros((2, *SHAPE), bool)
    cells = [(z, y, x) for z in range(4) for y in range(4) for x in range(4)]
    for cell in rng.permutation(cells)[:LESIONS]:
        centre = np.array((12, 130, 90)) + cell * (16, 64, 64) + rng.integers(-2, 3, 3)
        radius = rng.uniform(2.5, 12.5)
        for mask in masks:
            moved = centre * SPACING_MM + rng.normal(0, 0.15 * radius, 3)
            draw(mask, moved, radius * rng.uniform(0.85, 1.15))
    return masks[0], masks[1]


def draw(mask: np.ndarray, centre_mm: np.ndarray, radius_mm: float) -> None:
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    away = sum(
        ((a * s - c) / radius_mm) ** 2
        for a, s, c in zip((z, y, x), SPACING_MM, centre_mm, strict=True)
    )
    mask |= away < 1


def ours(predicted: np.ndarray, reference: np.ndarray) -> Values:
    """Only what the others compute as well."""
    from liverseg.core.evaluation.delineation import Delineation
    from liverseg.core.evaluation.overlap import dice_of_counts, jaccard_of_counts
    from liverseg.core.evaluation.surface import surface_distances

    first, second = (Delineation.of(m, SPACING_MM) for m in (predicted, reference))
    counts = first.shared_with(second), first.voxels, second.voxels
    far = surface_distances(first.surface, second.surface)
    return {"dice": dice_of_counts(*counts), "jaccard": jaccard_of_counts(*counts)} | vars(far)


def ours_with_everything(predicted: np.ndarray, reference: np.ndarray) -> Values:
    """With the lesions matched: all that `liverseg evaluate` computes for a pair."""
    from liverseg.core.evaluation.case import evaluate_case
    from liverseg.core.evaluation.delineation import Delineation

    first, second = (Delineation.of(m, SPACING_MM) for m in (predicted, reference))
    values = evaluate_case("pair", {"R1": second}, {"A1": first})["algorithms"]["A1"]
    return {name: values[name]["R1"] for name in SHARED} | {
        "found": values["detection"]["lesion"]["R1"]["tp"]
    }


def monai(predicted: np.ndarray, reference: np.ndarray) -> Values:
    import torch
    from monai import metrics

    pair = [torch.from_numpy(m)[None, None] for m in (predicted, reference)]
    scores = {
        "dice": metrics.compute_dice(*pair, include_background=True),
        "jaccard": metrics.compute_iou(*pair, include_background=True),
        "hd_mm": metrics.compute_hausdorff_distance(*pair, True, spacing=SPACING_MM),
        "hd95_mm": metrics.compute_hausdorff_distance(
            *pair, True, percentile=95, spacing=SPACING_MM
        ),
        "assd_mm": metrics.compute_average_surface_distance(
            *pair, True, symmetric=True, spacing=SPACING_MM
        ),
    }
    return {name: float(value) for name, value in scores.items()}


def panoptica(predicted: np.ndarray, reference: np.ndarray) -> Values:
    """Both masks as one instance each: the least that panoptica can be asked for."""
    from panoptica import InputType, Metric, Panoptica_Evaluator, disable_citation_reminder

    disable_citation_reminder()
    wanted = [Metric.DSC, Metric.IOU, Metric.HD, Metric.HD95, Metric.ASSD]
    evaluator = Panoptica_Evaluator(
        InputType.MATCHED_INSTANCE, instance_metrics=wanted, global_metrics=[]
    )
    pair = [m.astype(np.uint8) for m in (predicted, reference)]
    (result,) = evaluator.evaluate(*pair, voxelspacing=SPACING_MM).values()
    names = ("sq_dsc", "sq", "sq_hd", "sq_hd95", "sq_assd")
    return {ours: float(getattr(result, name)) for ours, name in zip(SHARED, names, strict=True)}


CONTESTANTS: dict[str, Callable[[np.ndarray, np.ndarray], Values]] = {
    "ours": ours,
    "ours, all measures": ours_with_everything,
    "MONAI": monai,
    "panoptica": panoptica,
}


def measure(name: str, runs: int) -> dict[str, Any]:
    """Return the fastest of some runs in seconds, and how far they raise the peak in MB."""
    warnings.simplefilter("ignore")
    logging.disable()
    pair = scene()
    work = CONTESTANTS[name]
    small = np.zeros((2, 9, 9, 9), bool)
    small[:, 2:6, 2:6, 2:6] = True
    work(*small)  # imports, and whatever is compiled at the first call
    with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:
        refs.write("5")  # the peak is counted anew
    before, seconds = scale.status_mb("VmRSS"), []
    for _ in range(runs):
        start = time.perf_counter()
        values = work(*pair)
        seconds.append(time.perf_counter() - start)
    peak = scale.status_mb("VmHWM") - before
    return {"values": values, "seconds": min(seconds), "peak_mb": peak}


def measured(name: str, python: str, runs: int) -> dict[str, Any] | None:
    """Run one contestant in a fresh process; None where it is not installed."""
    command = [python, __file__, "--only", name, "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name:20} not measured: {done.stderr.strip().splitlines()[-1]}")
        return None
    measurement: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    values = "  ".join(f"{n} {v:.4g}" for n, v in measurement["values"].items())
    print(f"{name:20} {measurement['seconds']:7.3f} s  {measurement['peak_mb']:7.0f} MB   {values}")
    return measurement


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--panoptica", default=sys.executable, help="a Python that has it")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale-only", action="store_true", help="no other programs")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.only:
        print(json.dumps(measure(chosen.only, chosen.runs)))
        return 0
    promises = {} if chosen.scale_only else compared(chosen)
    promises |= scale.evaluation_promises()
    for promise, kept in promises.items():
        print(f"{'ok    ' if kept else 'BROKEN'} {promise}")
    return 0 if all(promises.values()) else 1


def compared(chosen: argparse.Namespace) -> dict[str, bool]:
    """Measure everybody on one pair; return what is promised, and whether it is kept."""
    print(f"a pair of {SHAPE} (z, y, x) with {LESIONS} lesions each, synthetic")
    measurements = {
        name: measured(
            name, chosen.panoptica if name == "panoptica" else sys.executable, chosen.runs
        )
        for name in CONTESTANTS
    }
    mine = measurements["ours"]
    theirs = [other for n in ("MONAI", "panoptica") if (other := measurements[n])]
    if mine is None or not theirs:
        return {"ours and another were measured": False}
    ratio = min(other["seconds"] for other in theirs) / mine["seconds"]
    monais = measurements["MONAI"]
    return {
        f"at least {FASTER} x the faster of the others: {ratio:.1f} x": ratio >= FASTER,
        "MONAI's numbers": monais is not None
        and np.allclose(*([f["values"][n] for n in SHARED] for f in (mine, monais)), rtol=1e-4),
        "both others were measured (give --panoptica a Python that has it)": len(theirs) == 2,
    }


if __name__ == "__main__":
    sys.exit(main())

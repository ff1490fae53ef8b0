"""How fast patches are made, and whether a training step ever waits for them.

On synthetic cases of the paper's size. Exits 1 where a promise is broken.

    python bench/training.py [--threads 2] [--seconds 20]
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from liverseg.core.data.case import PreparedCase
from liverseg.core.volumes.volume import Geometry
from liverseg.network.patches import PatchSampler
from liverseg.network.training import Training, Validation, train
from liverseg.settings import PRESETS, from_mapping

PATCHES_PER_SECOND, WAITING_SHARE = 5.0, 0.05


def synthetic_case(shape: tuple[int, int, int], seed: int) -> PreparedCase:
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    middle = [s / 2 for s in shape]
    liver = sum(((a - m) / (0.35 * 2 * m)) ** 2 for a, m in zip((z, y, x), middle, strict=True)) < 1
    lesion = sum(((a - m) / (0.1 * 2 * m)) ** 2 for a, m in zip((z, y, x), middle, strict=True)) < 1
    image = (rng.standard_normal(shape, dtype=np.float32) * 0.2 + 0.5) - 0.4 * lesion
    spacing = (4.0, 1.0, 1.0)
    geometry = Geometry(shape, spacing, (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1), "LPS")
    masks = {"R1": lesion}
    return PreparedCase(
        image.astype(np.float32), liver, liver, masks, spacing, liver, masks, geometry
    )


def patches_per_second(workers: int, seconds: float) -> float:
    settings = PRESETS["paper"]
    cases = [synthetic_case((60, 400, 400), s) for s in range(2)]
    sampler = PatchSampler(cases, "R1", settings.network, settings.training, seed=0)
    sampler.patch(0)
    start, made = time.perf_counter(), 0
    with ThreadPoolExecutor(workers) as pool:
        while time.perf_counter() - start < seconds:
            made += len(list(pool.map(sampler.patch, range(made, made + 8))))
    return made / (time.perf_counter() - start)


def waiting_share(threads: int) -> Validation:
    settings = from_mapping({"training": {"validation_interval": 20}}, PRESETS["small"])
    torch.set_num_threads(threads)
    cases = {str(s): synthetic_case((36, 320, 320), s) for s in range(2)}
    training = Training(settings, 0, cases, {"0": cases["0"]}, torch.device("cpu"))
    seen: list[Validation] = []
    train(training, 20, seen.append)
    return seen[-1]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--seconds", type=float, default=10)
    chosen = options.parse_args()
    rate = patches_per_second(chosen.threads, chosen.seconds)
    step = waiting_share(chosen.threads)
    print(f"paper patches, augmented: {rate:.1f} a second ({chosen.threads} threads)")
    print(f"small step: {step.seconds_per_iteration:.3f} s, waits {step.waiting_share:.2%} of it")
    promises = {
        f"at least {PATCHES_PER_SECOND} paper patches a second": rate >= PATCHES_PER_SECOND,
        f"a small step waits less than {WAITING_SHARE:.0%}": step.waiting_share < WAITING_SHARE,
    }
    for promise, kept in promises.items():
        print(f"{'ok    ' if kept else 'BROKEN'} {promise}")
    return 0 if all(promises.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

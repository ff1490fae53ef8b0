"""How fast patches are made, and whether a training step ever waits for them.

And what memory a trainer of 58 cases needs (scale.py). On synthetic cases of the paper's size.
Exits 1 where a promise is broken.

    python bench/training.py [--threads 2] [--seconds 20]
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import scale
import torch
from synthetic import prepared

from liverseg.core.data.case import TrainingCase
from liverseg.network.patches import PatchSampler
from liverseg.network.training import Training, Validation, train
from liverseg.settings import PRESETS, from_mapping

PATCHES_PER_SECOND, WAITING_SHARE = 5.0, 0.05


def synthetic_case(shape: tuple[int, int, int], seed: int) -> TrainingCase:
    case = prepared(seed, shape)
    return TrainingCase(case.image, case.liver, case.raters["R1"], case.loss_mask)


def patches_per_second(workers: int, seconds: float) -> float:
    settings = PRESETS["paper"]
    cases = [synthetic_case((60, 400, 400), s) for s in range(2)]
    sampler = PatchSampler(cases, settings.network, settings.training, seed=0)
    sampler.patch(0)
    start, made = time.perf_counter(), 0
    with ThreadPoolExecutor(workers) as pool:
        while time.perf_counter() - start < seconds:
            made += len(list(pool.map(sampler.patch, range(made, made + 8))))
    return made / (time.perf_counter() - start)


def waiting_share(threads: int) -> Validation:
    settings = from_mapping({"training": {"validation_interval": 20}}, PRESETS["small"])
    torch.set_num_threads(threads)
    cases = [synthetic_case((36, 320, 320), s) for s in range(2)]
    training = Training(settings, 0, cases, {"0": cases[0]}, torch.device("cpu"))
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
    } | scale.training_promises()
    for promise, kept in promises.items():
        print(f"{'ok    ' if kept else 'BROKEN'} {promise}")
    return 0 if all(promises.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

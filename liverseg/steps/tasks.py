"""The steps as a pipeline calls them: plain values in, plain values out, one function per task.

A component's body is one import and one call into this file. Whatever is large is in the store;
tasks pass only addresses and digests to each other. What an error does: steps/task_errors.py.
`_cache_token` is for KFP's cache alone (steps/cache_token.py).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from liverseg.errors import SettingsError, StudyError
from liverseg.race.decide.reconcile import Capacity, Until
from liverseg.race.records import facts
from liverseg.race.records.study import load_study, open_study
from liverseg.settings import from_mapping, preset
from liverseg.steps.cache_token import results_token
from liverseg.steps.data.transfer import local_file
from liverseg.steps.race.billing import Billing
from liverseg.steps.race.logged_race import open_race_store, race_to
from liverseg.steps.race.pod_overlay import overlaid
from liverseg.steps.race.race_logger import log
from liverseg.steps.race.trainer_backend import TrainerBackend
from liverseg.steps.task_errors import task
from liverseg.storage.open import open_store


@task
def find_cases(
    data: str, store: str, preset_name: str, split: str, settings: str, shards: int
) -> tuple[str, list[str]]:
    """Find the cases and begin a scan; return its id and the names of its shards.

    A shard's name holds all that `preprocess` has to know, since kfp.local hands a loop's tasks
    the item and nothing else that was computed before.
    """
    from liverseg.steps.data import scan_shards

    if shards < 1:
        raise SettingsError(f"shards ({shards}) must be at least 1")
    chosen = from_mapping(_json(settings), preset(preset_name))
    opened = open_store(store)
    lists = local_file(split) if split else None
    scan_id = scan_shards.begin(data, opened, chosen, lists, shards)
    return scan_id, [f"{scan_id}/{number}" for number in range(shards)]


@task
def preprocess(store: str, shard: str) -> None:
    """Check the cases of one shard, named by `find_cases`, and prepare those that are not yet."""
    from liverseg.steps.data import scan_shards

    scan_id, _, number = shard.partition("/")
    cases = scan_shards.check_shard(open_store(store), scan_id, int(number))
    refused = sum(bool(case.problems) for case in cases)
    reused = sum(case.prepared and not case.problems for case in cases)
    counts = len(cases) - reused - refused, reused, refused
    log.info("shard %s: %d cases prepared, %d reused, %d cannot be used", number, *counts)


@task
def scan(store: str, scan_id: str) -> str:
    """Collect the results of the shards and open the study; return its id.

    All problems are reported together, and then neither data set nor study is written. A task that
    is repeated, since its pod was lost, gives the same answer: the records stay.
    """
    from liverseg.steps.data import scan_shards

    opened = open_store(store)
    scanned = scan_shards.load(opened, scan_id)
    result = scan_shards.collect_shards(opened, scan_id, scanned)
    for finding in result.findings:
        log.info("%s %s: %s", finding.case, finding.file, finding.problem)
    for warning in result.warnings:
        log.info("warning: %s %s: %s", warning.case, warning.file, warning.problem)
    if result.dataset is None:
        raise result.error(scanned.data)
    if result.excluded:
        log.info("left out, since they cannot be used: %s", ", ".join(result.excluded))
    study = open_study(opened, from_mapping(scanned.settings), result.dataset)
    roles = {role: len(result.dataset.role(role)) for role in ("training", "validation", "test")}
    log.info("study %s: %s", study.id, ", ".join(f"{n} {role}" for role, n in roles.items()))
    return study.id


@task
def rung(
    store: str,
    study: str,
    until: str,
    limits: tuple[int, float, bool, bool],
    where: tuple[str, str, str, str],
    bill: tuple[str, float, str],
    page: str,
) -> dict[str, float]:
    """Run the race until a rung is decided ("end": to its end); return the rung's metrics.

    Args:
        store: URL of the store.
        study: Its id.
        until: A rung's index, or "end".
        limits: Trainers at a time, GPU-hours (0: no limit), whether the baseline is trained too,
            whether the study is taken from a controller that still holds it.
        where: Executor, trainer image, the cluster's settings of the trainers' pods, and the
            run's own, which are laid over them (steps/race/pod_overlay.py).
        bill: Who pays (empty: the pod's namespace, or the login name), the price of a GPU-hour (0:
            not known), its currency.
        page: Where an HTML page goes that shows who leads and how the seeds have learned so far.
    """
    from liverseg.steps.report import rung_page

    opened = open_race_store(store)
    loaded = load_study(opened, study)
    last = len(loaded.rungs) - 1
    goal: Until = "end" if until == "end" else int(until)
    capacity, billing = _capacity(limits), Billing.chosen(*bill)
    status = race_to(opened, loaded, goal, capacity, _backend(*where), limits[3], billing)
    index = last if goal == "end" else min(int(until), last)
    rung_page.write(opened, loaded, status, index, Path(page))
    return rung_page.metrics(status, index)


@task
def baseline(
    store: str,
    study: str,
    limits: tuple[int, float, bool, bool],
    where: tuple[str, str, str, str],
    bill: tuple[str, float, str],
) -> str:
    """Train the baseline to its end, if wanted; return the results' token (steps/cache_token.py).

    Arguments as in `rung`.
    """
    opened = open_race_store(store)
    loaded = load_study(opened, study)
    capacity = _capacity(limits)
    if capacity.compare_baseline:
        billing = Billing.chosen(*bill)
        race_to(opened, loaded, "baseline", capacity, _backend(*where), limits[3], billing)
    else:
        log.info("no baseline requested")
    return results_token(opened, loaded)


def _capacity(limits: tuple[int, float, bool, bool]) -> Capacity:
    gpus, max_gpu_hours, compare_baseline, _ = limits
    return Capacity(gpus, compare_baseline, max_gpu_hours or None)


def _backend(executor: str, trainer_image: str, cluster_pods: str, pods: str) -> TrainerBackend:
    return TrainerBackend.chosen(executor, trainer_image, overlaid(cluster_pods, pods))


@task
def predict(store: str, study: str, _cache_token: str) -> None:
    """Predict the test cases with the winner, the baseline if there is one, and the ensemble."""
    from liverseg.steps.results import predict as step

    opened = open_store(store)
    loaded = load_study(opened, study)
    for arm in facts.ended_arms(opened, study):
        log.info("%s: %d cases predicted", arm, len(step.run(opened, loaded, arm)))
    for line in step.ensemble(opened, loaded):
        log.info("%s", line)


@task
def postprocess(store: str, study: str, _cache_token: str) -> None:
    """Turn probabilities into segmentations on the original images, and compare the seeds'."""
    from liverseg.steps.results import disagreement
    from liverseg.steps.results import postprocess as step

    opened = open_store(store)
    loaded = load_study(opened, study)
    for arm, sha256 in facts.ended_arms(opened, study).items():
        log.info("%s: %d cases segmented", arm, len(step.run(opened, loaded, sha256).done))
    compared = disagreement.run(opened, loaded)
    seeds = ", ".join(compared["weights"])
    if compared["why_not"] is None:
        log.info("seeds %s compared with each other", seeds)
    else:
        log.info("seeds not compared: %s", compared["why_not"])


@task
def evaluate(store: str, study: str, _cache_token: str) -> dict[str, float]:
    """Compare the segmentations with every rater and with the best threshold; return metrics."""
    from liverseg.steps.results import evaluate as step

    opened = open_store(store)
    result = step.run(opened, load_study(opened, study))
    means = {f"dice_{arm}": values["mean_dice"] for arm, values in result["arms"].items()}
    for arm, case, rater in step.capped(result):
        log.info("%s %s %s: too many lesions touch to try every match", arm, case, rater)
    log.info("mean test Dice: %s", ", ".join(f"{k} {v:.3f}" for k, v in means.items()))
    return means


@task
def report(store: str, study: str, _cache_token: str, out: str) -> None:
    """Write the HTML report to `out` and into the store."""
    from liverseg.steps.report import report as step

    step.run(open_store(store), study, Path(out))


@task
def summary(store: str) -> None:
    """Log the status of the newest study, however the run ended."""
    from liverseg.steps.race import race
    from liverseg.steps.study.study_choice import latest_study

    opened = open_store(store)
    try:
        status = race.status(opened, latest_study(opened))
    except StudyError:
        # The run's own error is the one to show; that there is no study follows from it.
        log.info("no study was opened")
        return
    decided = sum(rung["decided"] for rung in status["rungs"])
    log.info("study %s: %d of %d rungs decided", status["study"], decided, len(status["rungs"]))


def _json(text: str) -> Mapping[str, Any]:
    try:
        values = json.loads(text or "{}")
    except ValueError as error:
        raise SettingsError(f"settings are not JSON: {error}: {text!r}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"settings must be a JSON object, not {text!r}")
    if "preset" in values:
        raise SettingsError("settings cannot choose the preset; give it as the parameter 'preset'")
    return values

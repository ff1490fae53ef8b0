"""What a trainer says of itself is what its training did."""

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from liverseg.race.records.facts import curve_keys
from liverseg.race.records.job import Attempt
from liverseg.storage.memory import MemoryStore
from liverseg.telemetry.trainer_metrics import TrainerMetrics


def values(metrics: TrainerMetrics) -> dict[str, float]:
    """The sum of the values by name; each series has the labels of the attempt."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            assert metrics.labels.items() <= sample.labels.items()
            name = sample.name.removeprefix("liverseg_trainer_")
            if not name.endswith("_bucket"):
                sums[name] = sums.get(name, 0.0) + sample.value
    return sums


class Pace:
    loss_sum, iterations, seconds, timed, waited = 0.0, 0, 0.0, 0, 0.0


class Validation:
    jaccard, loss, seconds_per_iteration, waiting_share = 0.5, 0.25, 2.0, 0.25


def test_every_iteration_is_counted_with_its_own_seconds_also_that_before_a_validation() -> None:
    metrics, pace = TrainerMetrics("s", Attempt(0, 3, 0), lambda: 7.0), Pace()
    assert "loss" not in values(metrics)
    for number in (1, 2):
        pace.timed, pace.iterations, pace.loss_sum = number, number, 0.9 * number
        pace.seconds, pace.waited = 1.5 * number, 0.5 * number
        metrics.iterated(pace)
    assert values(metrics)["loss"] == pytest.approx(0.9)
    # Of the third one only the validation tells: three took 6 s, and waited for 1.5 s of these.
    metrics.validated(Validation())
    metrics.iterated(Pace())
    after = values(metrics)
    assert (after["iterations_total"], after["iteration_seconds_count"]) == (3, 3)
    assert after["iteration_seconds_sum"] == pytest.approx(6.0)
    assert after["data_wait_seconds_total"] == pytest.approx(1.5)
    assert (after["loss"], after["validation_jaccard"]) == (0.25, 0.5)


def test_a_checkpoint_that_is_not_committed_does_not_count() -> None:
    metrics = TrainerMetrics("s", Attempt(0, 3, 0), lambda: 7.0)
    with pytest.raises(OSError, match="disk"), metrics.saving(10):
        raise OSError("disk")
    assert values(metrics)["checkpoint_bytes_total"] == 0
    with metrics.saving(10):
        pass
    after = values(metrics)
    assert (after["checkpoint_bytes_total"], after["last_checkpoint_timestamp_seconds"]) == (10, 7)


@pytest.mark.slow
def test_a_real_training_says_what_its_curve_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from liverseg.race.records import facts
    from liverseg.steps.training import train
    from liverseg.storage import record
    from tests.steps.tiny_study import study_in

    made: list[TrainerMetrics] = []

    def keep(*args: object) -> TrainerMetrics:
        made.append(TrainerMetrics(*args))
        return made[-1]

    monkeypatch.setattr(train, "TrainerMetrics", keep)
    store = MemoryStore()
    study = study_in(store)
    assert train.run(store, study.id, 0, 0, 0, orphan_grace=3600, now=lambda: 9.0) == 0
    said = values(made[0])
    points = [record.read(store, key, facts.CurvePoint) for key in curve_keys(store, study.id)[0]]
    assert said["iterations_total"] == said["target_iterations"] == 3
    trained = np.diff([0, *(point.iteration for point in points)])
    seconds = sum(n * p.seconds_per_iteration for n, p in zip(trained, points, strict=True))
    assert said["iteration_seconds_sum"] == pytest.approx(seconds)
    assert said["validation_jaccard"] == points[-1].jaccard
    assert said["loss"] == pytest.approx(points[-1].loss)
    assert said["checkpoint_seconds_count"] == len(points) == 2
    written = sum(len(data) for key, data in store.objects.items() if "checkpoints/" in key)
    assert said["checkpoint_bytes_total"] > written / 2
    assert said["liverseg_store_errors_total"] == 0
    assert said["liverseg_store_request_duration_seconds_count"] > 10
    # The next rung continues from the end of this one.
    assert said["reached_iterations"] == 3
    assert train.run(store, study.id, 0, 1, 0, orphan_grace=3600, now=lambda: 9.0) == 0
    said = values(made[1])
    assert (said["iterations_total"], said["target_iterations"]) == (3, 6)
    assert said["reached_iterations"] == 6

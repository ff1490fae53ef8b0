"""Every metric that is computed from the facts: its name, its type and what it means."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Kind = Literal["counter", "gauge"]


class Sample(NamedTuple):
    """One value of one series."""

    name: str
    labels: Mapping[str, str]
    value: float


METRICS: dict[str, tuple[Kind, str]] = {
    # Gauges: what is startup becomes useful once a report covers it, and a counter must not fall.
    "liverseg_gpu_seconds": (
        "gauge",
        "GPU (or CPU) seconds by rung and outcome, as in the ledger, up to the last recorded event."
        " What is startup becomes useful once a report covers it.",
    ),
    "liverseg_iterations": ("gauge", "Iterations by rung and outcome, as in the ledger."),
    "liverseg_study_info": (
        "gauge",
        "1; who pays for the study, the version that runs it, its data set.",
    ),
    "liverseg_study_state": ("gauge", "1 for what the controller does, or did last; else 0."),
    "liverseg_seeds": ("gauge", "Seeds by state, at the last rung that each has come to."),
    "liverseg_rung": ("gauge", "First rung that is not decided; the number of rungs at the end."),
    "liverseg_rungs": ("gauge", "Rungs of the schedule."),
    "liverseg_rung_seeds": ("gauge", "Seeds that have come to the rung."),
    "liverseg_promotions_total": ("counter", "Seeds that were promoted at the rung."),
    "liverseg_decisions_total": ("counter", "Rungs that are decided."),
    "liverseg_rung_expected_end_timestamp_seconds": (
        "gauge",
        "Unix time at which the current rung is expected to end.",
    ),
    "liverseg_expected_end_timestamp_seconds": (
        "gauge",
        "Unix time at which the race is expected to end.",
    ),
    "liverseg_remaining_gpu_seconds": (
        "gauge",
        "GPU seconds that the race will still need, the baseline's not counted.",
    ),
    "liverseg_attempts_total": ("counter", "Attempts that have ended, by cause."),
    "liverseg_saved_gpu_seconds": (
        "gauge",
        "GPU seconds that pruned seeds would still need to the last rung, at this study's rate.",
    ),
    "liverseg_budget_gpu_seconds": (
        "gauge",
        "GPU seconds after which the newest controller starts no trainer.",
    ),
    "liverseg_gpu_price_per_hour": ("gauge", "Price of a GPU-hour."),
    "liverseg_lease_generation": ("gauge", "Number of the newest controller's lease."),
    "liverseg_heartbeat_timestamp_seconds": (
        "gauge",
        "Unix time of the controller's last heartbeat.",
    ),
    "liverseg_waiting_jobs": ("gauge", "Trainers that were started and do not run yet."),
    "liverseg_attempt_last_progress_timestamp_seconds": (
        "gauge",
        "Unix time of the last event of an attempt that has begun and not ended.",
    ),
    "liverseg_attempt_gpu_seconds": (
        "gauge",
        "GPU seconds of an attempt in a pod; only of studies with an event in the last 24 h.",
    ),
    "liverseg_step_cases": ("gauge", "Cases that a step of the pipeline processed and refused."),
    "liverseg_exporter_scrape_errors": (
        "gauge",
        "1 where the study's facts could not be read; its other values are then the last known.",
    ),
}


def families(samples: Iterable[Sample]) -> list[Metric]:
    """Return the samples as families, in the order of METRICS; those without samples are absent."""
    made: dict[str, Metric] = {}
    for sample in samples:
        if (family := made.get(sample.name)) is None:
            kind, text = METRICS[sample.name]
            made[sample.name] = family = (
                CounterMetricFamily(sample.name, text)
                if kind == "counter"
                else GaugeMetricFamily(sample.name, text)
            )
        family.add_sample(sample.name, dict(sample.labels), sample.value)
    return [made[name] for name in METRICS if name in made]

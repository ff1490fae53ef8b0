"""GPU time and what it was spent for: facts to samples. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from liverseg.core.race.ledger import OUTCOMES, RungName
from liverseg.race.decide.cost import ledger
from liverseg.telemetry.metrics import Sample
from liverseg.telemetry.study_facts import StudyFacts

# For how long after its last event the attempts of a study are listed one by one.
RECENT_SECONDS = 24 * 3600.0


def gpu_time(facts: StudyFacts, now: float) -> Iterator[Sample]:
    """Yield what a study has used at unix time `now`, what it may use, and what pruning saved."""
    study, snapshot = facts.study.id, facts.snapshot
    cost = ledger(facts.study, snapshot)
    rungs: list[RungName] = [*range(len(facts.study.rungs)), "baseline"]
    for name, unit in (("gpu_seconds", "seconds"), ("iterations", "iterations")):
        for rung in rungs:
            rows = [row for row in cost["rows"] if row["rung"] == rung]
            for outcome in OUTCOMES:
                # Also where it is 0: from its first value on, all of it is an increase.
                spent = (cost["baseline"],) if rung == "baseline" else rows
                labels = {"study": study, "rung": str(rung), "outcome": outcome}
                value = sum(row[outcome][unit] for row in spent)
                yield Sample(f"liverseg_{name}", labels, value)
    if snapshot.decisions and cost["spent_iterations"]:
        yield Sample("liverseg_saved_gpu_seconds", {"study": study}, _saved_seconds(facts, cost))
    yield from _limits(facts)
    yield from _attempts(facts, now)


def _saved_seconds(facts: StudyFacts, cost: Mapping[str, Any]) -> float:
    """Return what the pruned seeds would have needed to the last rung, at the mean rate so far."""
    whole = facts.study.settings.race.maximum_iterations
    pruned = sum(len(d.pruned) * (whole - d.iterations) for d in facts.snapshot.decisions)
    rate: float = cost["seconds"] / cost["spent_iterations"]
    return pruned * rate


def _limits(facts: StudyFacts) -> Iterator[Sample]:
    """Yield who pays, and what the newest controller was given of it."""
    study, controller = facts.study.id, facts.controller
    info = {
        "study": study,
        "user": controller.user if controller else "",
        "version": controller.version if controller else "",
        "dataset": facts.study.dataset.digest[:12],
    }
    yield Sample("liverseg_study_info", info, 1)
    if controller is None:
        return
    if controller.max_gpu_hours is not None:
        budget = controller.max_gpu_hours * 3600
        yield Sample("liverseg_budget_gpu_seconds", {"study": study}, budget)
    if controller.price_per_gpu_hour is not None:
        labels = {"study": study, "currency": controller.currency}
        yield Sample("liverseg_gpu_price_per_hour", labels, controller.price_per_gpu_hour)


def _attempts(facts: StudyFacts, now: float) -> Iterator[Sample]:
    """Yield the time of every attempt in a pod, and the last sign of life of those that live."""
    spans = facts.snapshot.spans.items()
    newest = max((span.samples[-1].time for _, span in spans), default=0.0)
    for at, span in spans:
        labels = {
            "study": facts.study.id,
            "seed": str(at.seed),
            "rung": str(at.rung),
            "attempt": str(at.attempt),
        }
        if not span.ended:
            name = "liverseg_attempt_last_progress_timestamp_seconds"
            yield Sample(name, labels, span.samples[-1].time)
        if span.pod and now - newest < RECENT_SECONDS:
            labels = labels | {"pod_uid": span.pod}
            yield Sample("liverseg_attempt_gpu_seconds", labels, span.seconds)

"""The ledger of a study, computed from its spans, reports and decisions."""

from typing import Any

from liverseg.core.race.halving import figures
from liverseg.core.race.ledger import Cost, cost_by_attempt, decision_times, total
from liverseg.race.records.snapshot import Snapshot
from liverseg.race.records.study import Study
from liverseg.settings import BASELINE_SEED


def ledger(study: Study, snapshot: Snapshot) -> dict[str, Any]:
    """Return what the race cost, ready for JSON; the baseline is in no total of the race.

    Keys: `useful`, `repeated`, `pruned`, `startup`, each {"iterations", "seconds"};
    `spent_iterations`, `unpruned_iterations` (every seed trained to the end),
    `saved_iterations`, `planned_iterations`; `seconds`; `rows`, one per seed, rung and attempt;
    `baseline`.
    """
    spans = list(snapshot.spans.values())
    covered: dict[int, int] = {}
    for report in snapshot.reports:
        index = -1 if report.rung == "baseline" else report.rung
        reached = study.rungs[index].iterations
        covered[report.seed] = max(covered.get(report.seed, 0), reached)
    decisions = [
        (d.rung, {entry.seed: entry.attempt for entry in d.inputs}, d.pruned)
        for d in snapshot.decisions
    ]
    costs = cost_by_attempt(spans, covered, decision_times(decisions, spans))
    race = {at: cost for at, cost in costs.items() if at[0] != BASELINE_SEED}
    whole = total(race.values())
    spent = sum(s.iterations for s in whole.values())
    unpruned = study.settings.race.seeds * study.settings.race.maximum_iterations
    rows = sorted(race.items(), key=lambda row: (row[0][1], row[0][0], row[0][2]))
    return _plain(whole) | {
        "spent_iterations": spent,
        "unpruned_iterations": unpruned,
        "saved_iterations": unpruned - spent,
        "planned_iterations": figures(study.rungs, 1, 1.0).iterations,
        "seconds": sum(s.seconds for s in whole.values()),
        "rows": [
            {"seed": seed, "rung": rung, "attempt": attempt} | _plain(cost)
            for (seed, rung, attempt), cost in rows
        ],
        "baseline": _plain(total(cost for at, cost in costs.items() if at[0] == BASELINE_SEED)),
    }


def _plain(cost: Cost) -> dict[str, Any]:
    return {o: {"iterations": s.iterations, "seconds": s.seconds} for o, s in cost.items()}

"""How sure the rungs of a race were, from its curves; for the rung's page and the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from liverseg.core.race import rung_bootstrap
from liverseg.core.race.halving import promotion_slots
from liverseg.core.race.rung_bootstrap import MINIMUM_CASES, RESAMPLES, SURE, Values
from liverseg.race.records.study import Study

Curve = Sequence[Mapping[str, Any]]


def of_rung(
    study: Study, status: Mapping[str, Any], index: int, curves: Mapping[int, Curve]
) -> dict[str, Any]:
    """Return how sure a decided rung was, as plain values.

    Args:
        study: The race's settings.
        status: What `steps.race.status` returns.
        index: Of the rung.
        curves: By seed what `read_curves` returns (curves.py).

    Returns:
        `rung`; `iterations`; `why_not`, the reason where it is not assessable, else None; `cases`,
        how many validate; `resamples`; `metric`, what ranks; `sure`, the share from which a fate
        is sure; `repeated`, the share of the resamples that promote the same seeds;
        `inside_noise`, whether a seed's fate is; `seeds`, best first, each with `seed`, `jaccard`,
        `promoted`, `share` of the resamples that promote it, and `inside_noise`. Seeds without a
        score are in none of it.
    """
    rung = status["rungs"][index]
    scores = {r["seed"]: r["jaccard"] for r in rung["reports"] if r["jaccard"] is not None}
    until = rung["iterations"]
    used = {s: [p for p in curves.get(s, ()) if p["iteration"] <= until] for s in scores}
    names = sorted({name for points in used.values() for p in points for name in p["cases"]})
    values = {seed: _table(points, names) for seed, points in used.items()}
    why_not = _why_not(values, len(names))
    bootstrap, metric = None, study.settings.race.rung_metric
    if why_not is None:
        bootstrap = rung_bootstrap.assess(
            values, rung["promoted"], promotion_slots(study.rungs, index), metric
        )
    return {
        "rung": index,
        "iterations": until,
        "why_not": why_not,
        "cases": len(names),
        "resamples": RESAMPLES,
        "metric": metric,
        "sure": SURE,
        "repeated": bootstrap.repeated if bootstrap else None,
        "inside_noise": bool(bootstrap and bootstrap.inside_noise),
        "seeds": [
            {
                "seed": seed,
                "jaccard": jaccard,
                "promoted": seed in rung["promoted"],
                "share": bootstrap.promoted[seed] if bootstrap else None,
                "inside_noise": bool(bootstrap and seed in bootstrap.inside_noise),
            }
            for seed, jaccard in scores.items()
        ],
    }


def of_race(
    study: Study, status: Mapping[str, Any], curves: Mapping[int, Curve]
) -> list[dict[str, Any]]:
    """Return what `of_rung` does for every rung that is decided, in order."""
    decided = [i for i, rung in enumerate(status["rungs"]) if rung["decided"]]
    return [of_rung(study, status, index, curves) for index in decided]


def _table(points: Curve, names: Sequence[str]) -> Values:
    """Return the Jaccard of the validations that had a mean, (validations, cases)."""
    rows = [[p["cases"].get(name) for name in names] for p in points if p["jaccard"] is not None]
    # A value that is missing becomes NaN here.
    return np.array(rows, float).reshape(len(rows), len(names))


def _why_not(values: Mapping[int, Values], cases: int) -> str | None:
    if not values:
        return "no seed has a score"
    incomplete = [seed for seed, v in values.items() if not len(v) or not np.isfinite(v).all()]
    if incomplete:
        return f"validations of seed {incomplete[0]} are missing or lack a case"
    if cases < MINIMUM_CASES:
        counted = "1 validation case" if cases == 1 else f"{cases} validation cases"
        return f"{counted}, at least {MINIMUM_CASES} are needed"
    return None

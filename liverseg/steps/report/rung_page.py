"""What a rung's task shows in the UI while the race is still running: metrics and a page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from liverseg.race.records.study import Study
from liverseg.steps.report import rung_bootstrap
from liverseg.steps.report.curves import read_curves
from liverseg.storage.files import write_files
from liverseg.storage.port import ObjectStore


def metrics(status: Mapping[str, Any], index: int) -> dict[str, float]:
    """Return the numbers of a decided rung: who leads, how many go on, what has been spent."""
    rung = status["rungs"][index]
    metrics: dict[str, float] = {
        "seeds": len(rung["seeds"]),
        "promoted": len(rung["promoted"]),
        "iterations_spent": status["ledger"]["spent_iterations"],
    }
    if rung["reports"]:
        leader = rung["reports"][0]
        metrics["leader_seed"] = leader["seed"]
        # A leader without a finite value is left out; KFP's metrics are numbers.
        if leader["jaccard"] is not None:
            metrics["leader_jaccard"] = leader["jaccard"]
    return metrics


def write(
    store: ObjectStore, study: Study, status: Mapping[str, Any], index: int, out: Path
) -> None:
    """Write the HTML page of a decided rung."""
    from liverseg.reporting import figures, page

    reports = status["rungs"][index]["reports"]
    leader = reports[0]["seed"] if reports else None
    curves = read_curves(store, study.id, pack=index)
    values = {
        "study": study.id,
        "rung": index,
        "headline": "no seed is left" if leader is None else f"seed {leader} leads",
        "synthetic": any(c.synthetic for c in study.dataset.cases),
        "rows": [row(r) for r in status["rungs"] if r["decided"]],
        "curves": figures.learning_curves(
            curves, [r.iterations for r in study.rungs], leader, "leads"
        ),
        "rung_bootstrap": rung_bootstrap.of_rung(study, status, index, curves),
    }
    write_files({out: page.render("rung.html.jinja", values).encode()})


def row(rung: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rung as the tables show it, with the Jaccard that decided."""
    scores = {r["seed"]: r["jaccard"] for r in rung["reports"]}
    worst = next((scores.get(s) for s in reversed(rung["promoted"])), None)
    pruned = [scores[s] for s in rung["pruned"] if scores.get(s) is not None]
    cut = "" if worst is None else f"Jaccard {worst:.4f} goes on"
    if pruned and worst is not None:
        cut += f", {max(pruned):.4f} does not"
    return {**rung, "cut": cut}

"""An evaluation of files as a page, and the paper's figure 2; what draws, and so needs matplotlib.

Takes what schemas/evaluation-1.json describes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from liverseg.core.evaluation.agreement import mean
from liverseg.core.evaluation.case import measures
from liverseg.core.evaluation.measures import HEADLINES, MEAN
from liverseg.reporting import charts, figures, page
from liverseg.reporting.evaluation import Table, notes, number, tables


def figure_2(result: Mapping[str, Any], algorithms: Sequence[str]) -> Figure:
    """Draw Dice by case, against the raters' own, and phi, of these algorithms."""
    dice: dict[str, dict[str, Mapping[str, float | None]]] = {name: {} for name in algorithms}
    phi: dict[str, dict[str, float | None]] = {name: {} for name in algorithms}
    between: dict[str, float | None] = {}
    for case in result["cases"]:
        between[case["case"]] = mean(list(case["rater_dice"].values()))
        for name in case["algorithms"].keys() & dice.keys():
            values = case["algorithms"][name]
            dice[name][case["case"]] = {r: v for r, v in values["dice"].items() if r != MEAN}
            phi[name][case["case"]] = values["phi"]
    return charts.agreement(dice, between, phi)


def html(result: Mapping[str, Any]) -> str:
    """Return a page with the tables, every case, and what was left out."""
    rows = [
        [case["case"], name, *(number(measures(case, name)[m]) for m in HEADLINES)]
        for case in result["cases"]
        for name in case["algorithms"]
    ]
    cases = Table(
        "Cases, mean over raters",
        ("case", "", *HEADLINES.values()),
        rows,
    )
    picture = figures.data_uri(figure_2(result, list(result["summary"])))
    values = {"tables": [*tables(result), cases], "notes": notes(result), "figure": picture}
    settings = result["settings"] | {"version": result["version"], "schema": result["schema"]}
    return page.render("evaluation.html.jinja", values | {"settings": settings})

"""An evaluation of files as tables: on the terminal and as CSV; page and figure: evaluation_page.

Takes what schemas/evaluation-1.json describes.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from liverseg.core.evaluation.case import measures
from liverseg.core.evaluation.measures import (
    DICE,
    HEADLINES,
    MEAN,
    MEASURES,
    PHI,
    SCORES,
)

# Dice and phi have a table of their own, with a column for every rater.
_OTHERS = {m.mean_name: m.head for m in MEASURES if m not in (DICE, PHI)}


@dataclass(frozen=True)
class Table:
    """Text in rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the figures over all cases; cells are mean ± standard deviation."""
    cases = len(result["cases"])
    over = "1 case" if cases == 1 else f"{cases} cases, mean ± standard deviation"
    columns = [*result["raters"], MEAN]
    shown = [
        Table(
            f"Dice, {over}",
            ("", *columns, PHI.head),
            list(_rows(result, [*DICE.names(result["raters"]), *PHI.names(())])),
        ),
        Table(
            "Other measures, mean over raters",
            ("", *_OTHERS.values()),
            list(_rows(result, list(_OTHERS))),
        ),
        *_detection(result),
        Table(
            "Lesion recall by diameter",
            ("", "rater", "diameter mm", "lesions", "found", "recall"),
            list(_diameters(result)),
        ),
    ]
    if cases > 1:
        heads = ("", *HEADLINES.values())
        rows = [
            [name, *(_interval(summary.get(measure)) for measure in HEADLINES)]
            for name, summary in result["summary"].items()
        ]
        shown.append(Table("95 % intervals of the means, bootstrap over cases", heads, rows))
    if result["tests"]:
        shown.append(
            Table(
                "Paired tests (Wilcoxon, two-sided; adjusted by Benjamini-Hochberg)",
                ("", "measure", "n", "W", "p", "exact p", "adjusted p", "FDR 0.05"),
                list(_tests(result)),
            )
        )
    return shown


def notes(result: Mapping[str, Any]) -> list[str]:
    """Return what a reader has to know beside the tables."""
    lines = []
    between = result["rater_summary"].get(f"dice.{MEAN}")
    if between is None:
        lines.append("One rater: there is no agreement between raters, and no phi.")
    else:
        lines.append(f"Raters among themselves: Dice {spread(between)}.")
    identical = [c["case"] for c in result["cases"] if c["raters_identical"]]
    if identical:
        lines.append(f"All raters drew the same, so that phi is 1 or 0: {', '.join(identical)}.")
    lines += [
        f"{name}: no file has the label {', '.join(map(str, result['settings']['labels']))}, so "
        "that its only label is taken as lesion."
        for name in result["settings"]["plain_masks"]
    ]
    for reason in dict.fromkeys(t["reason"] for t in result["tests"] if t["reason"]):
        lines.append(f"No p-value: {reason}.")
    for case in result["cases"]:
        lines += [
            f"{case['case']}: {name} has other labels only, so no lesion."
            for name in case.get("label_absent", ())
        ]
        lines += [
            f"{case['case']}: {name} was resampled, nearest neighbour."
            for name in case.get("resampled", ())
        ]
        lines += [
            f"{case['case']}: {name} has {voxels} lesion voxels outside the reference's grid, left "
            "out."
            for name, voxels in case.get("outside_grid_voxels", {}).items()
            if voxels
        ]
        lines += [
            f"{case['case']}: rater {name} is absent." for name in case.get("absent_raters", ())
        ]
        lines += [
            f"{case['case']}: {name} has {voxels} lesion voxels outside the liver, left out."
            for name, voxels in case.get("outside_liver_voxels", {}).items()
            if voxels and name in case["algorithms"]
        ]
        lines += [
            f"{row['case']}: {row['rater']} has {row['voxels']} lesion voxels outside the liver, "
            f"which costs a prediction at most {number(row['loss'])} of its Dice."
            for row in outside_rows(case)
        ]
        lines += [
            f"{case['case']}: {name} against {', '.join(values['detection']['capped'])}: too many "
            "lesions touch to try every subset."
            for name, values in case["algorithms"].items()
            if values["detection"]["capped"]
        ]
    lines += [f"Left out: {one['case']}: {one['reason']}" for one in result["excluded"]]
    return lines


def outside_rows(case: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return `case`, `rater`, `voxels` and `loss` of each rater with voxels outside the liver.

    `loss` is the part of Dice that no prediction inside the liver can reach.
    """
    outside = case.get("outside_liver_voxels", {})
    return [
        {
            "case": case["case"],
            "rater": rater,
            "voxels": outside[rater],
            "loss": loss,
        }
        for rater, loss in case.get("outside_liver_dice_loss", {}).items()
        if outside[rater]
    ]


def csv_text(result: Mapping[str, Any]) -> str:
    """Return a row for every case and algorithm; an empty field is not defined."""
    rows = [
        {"case": case["case"], "algorithm": name} | measures(case, name)
        for case in result["cases"]
        for name in case["algorithms"]
    ]
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def spread(summary: Mapping[str, Any]) -> str:
    """Return mean ± standard deviation, and how many cases have no value."""
    if summary["mean"] is None:
        return "-"
    deviation = "" if summary["sd"] is None else f" ± {number(summary['sd'])}"
    without = f" ({summary['n_nan']} without)" if summary["n_nan"] else ""
    return f"{number(summary['mean'])}{deviation}{without}"


def _rows(result: Mapping[str, Any], names: Sequence[str]) -> Iterator[list[str]]:
    for algorithm, summary in result["summary"].items():
        yield [algorithm, *(spread(summary[n]) if n in summary else "-" for n in names)]


def _detection(result: Mapping[str, Any]) -> Iterator[Table]:
    for unit, plural in (("lesion", "lesions"), ("correspondence", "correspondences")):
        names = [f"{unit}.{score.name}.{MEAN}" for score in SCORES]
        rows = [
            [*row, number(result["summary"][row[0]][names[-1]]["median"])]
            for row in _rows(result, names)
        ]
        raters = result["rater_summary"]
        if raters:
            values = [spread(raters[name]) for name in names]
            rows.append(["raters", *values, number(raters[names[-1]]["median"])])
        heads = [score.head for score in SCORES]
        yield Table(f"Detection of {plural}, mean over raters", ("", *heads, "FPC median"), rows)


def _diameters(result: Mapping[str, Any]) -> Iterator[list[str]]:
    for algorithm, by_rater in result["lesion_recall_by_diameter"].items():
        for rater, rows in by_rater.items():
            for row in rows:
                low, high = f"{row['from_mm']:g}", row["below_mm"]
                size = f"{low} or more" if high is None else f"{low} to {high:g}"
                counts = str(row["references"]), str(row["found"])
                yield [algorithm, rater, size, *counts, number(row["recall"])]


def _tests(result: Mapping[str, Any]) -> Iterator[list[str]]:
    for test in result["tests"]:
        outcome = {True: "differ", False: "not shown", None: "-"}[test["rejected"]]
        statistic = "-" if test["statistic"] is None else f"{test['statistic']:g}"
        p_values = [
            "-" if test[p] is None else f"{test[p]:.4f}" for p in ("p", "p_exact", "p_adjusted")
        ]
        pair = " - ".join(test["algorithms"])
        yield [pair, test["measure"], str(test["n"]), statistic, *p_values, outcome]


def _interval(summary: Mapping[str, Any] | None) -> str:
    if summary is None or summary["ci95"] is None:
        return "-"
    low, high = summary["ci95"]
    return f"{number(low)} to {number(high)}"


def number(value: float | None) -> str:
    """Return a figure with three digits, or - where it is not defined."""
    return "-" if value is None else f"{value:.3f}"

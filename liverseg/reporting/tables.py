"""The paper's tables 1 and 2 for a study of one's own, the published values beside them.

Takes what schemas/evaluation-1.json describes.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from liverseg.core.evaluation.measures import MEAN
from liverseg.reporting.evaluation import spread

PUBLISHED_SEGMENTATION = {
    "A1 multi-model": ("0.732 ± 0.210", "0.744 ± 0.200", "0.738 ± 0.189", "0.738 ± 0.194",
                       "0.873 ± 0.082"),
    "A2 baseline": ("0.689 ± 0.214", "0.714 ± 0.195", "0.697 ± 0.190", "0.700 ± 0.196",
                    "0.852 ± 0.082"),
    "p": ("0.0017", "0.0269", "0.0029", "0.0025", "0.0022"),
    "between raters": ("", "", "", "0.781 ± 0.121", ""),
}  # fmt: skip
PUBLISHED_RATERS = 3
PUBLISHED_DETECTION = {
    "A1 multi-model": ("0.710", "0.566", "0.589", "2.3"),
    "A2 baseline": ("0.748", "0.418", "0.490", "6"),
    "raters": ("0.804", "0.787", "0.761", "1"),
}
_SCORES = ("recall", "precision", "f1")
# The paper's two; others, such as the threshold, are in no test of its tables.
_PAIR = ["A1", "A2"]


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    cells: tuple[str, ...]
    published: bool = False
    """From the paper: other data than the rows above it."""


@dataclass(frozen=True)
class PaperTable:
    """A table as text, ready for HTML, CSV and LaTeX."""

    number: int
    """In the paper."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str


def segmentation(result: Mapping[str, Any], data: str) -> PaperTable:
    """Return table 1: Dice with each rater, their mean and phi; mean ± SD over the cases.

    `data` says what the cases are, such as "synthetic test cases".
    """
    raters = list(result["raters"])
    names = [*(f"dice.{rater}" for rater in raters), f"dice.{MEAN}", "phi"]
    rows = [Row(name, _spreads(summary, names)) for name, summary in result["summary"].items()]
    rows += _p_rows(result, names)
    if f"dice.{MEAN}" in result["rater_summary"]:
        between = spread(result["rater_summary"][f"dice.{MEAN}"])
        rows.append(Row("between raters", (*[""] * len(raters), between, "")))
    for name, cells in PUBLISHED_SEGMENTATION.items():
        # The paper's three raters stand in columns of ours only where there are three.
        same = len(raters) == PUBLISHED_RATERS
        shown = cells if same else (*[""] * len(raters), *cells[-2:])
        rows.append(Row(f"{name}, published", shown, published=True))
    columns = (*(f"D(·, {rater})" for rater in raters), "mean", "φ")
    return PaperTable(1, "Segmentation", columns, tuple(rows), _note(result, data))


def detection(result: Mapping[str, Any], data: str, unit: str = "lesion") -> PaperTable:
    """Return table 2: recall, precision and F1 (mean over cases) and false positives (median).

    A group of rows for each rater and for the mean over the raters of each case, with its tests:
    12 with three raters. `unit`: "lesion", as in the paper, or "correspondence".
    """
    references = [*result["raters"], MEAN]
    rows = [row for reference in references for row in _detection_rows(result, unit, reference)]
    note = _note(result, data)
    if unit == "lesion":
        rows += [
            Row(f"{name}, {MEAN}, published", cells, published=True)
            for name, cells in PUBLISHED_DETECTION.items()
        ]
        note += " Of the published values only the means over the raters are at hand, and no p."
    columns = ("recall", "precision", "F1", "false positives, median")
    return PaperTable(2, f"Detection, counted by {unit}", columns, tuple(rows), note)


def _detection_rows(result: Mapping[str, Any], unit: str, reference: str) -> list[Row]:
    """Return the rows against one rater, or of the mean over the raters."""
    names = [f"{unit}.{score}.{reference}" for score in _SCORES]
    false = f"{unit}.fp.{reference}"
    everybody = dict(result["summary"])
    if false in result["rater_summary"]:
        everybody["raters"] = result["rater_summary"]
    rows = [
        Row(f"{name}, {reference}", (*_spreads(summary, names), _median(summary.get(false))))
        for name, summary in everybody.items()
    ]
    if unit == "lesion":
        rows += [Row(f"{r.name}, {reference}", (*r.cells, "")) for r in _p_rows(result, names)]
    return rows


def as_csv(table: PaperTable) -> str:
    """Return comma-separated values with a header."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([table.title, *table.columns])
    writer.writerows([row.name, *row.cells] for row in table.rows)
    return target.getvalue()


def as_latex(table: PaperTable) -> str:
    """Return a LaTeX table for the package booktabs."""
    lines = [
        r"\begin{table}",
        rf"\caption{{{_escaped(f'{table.title}. {table.note}')}}}",
        rf"\begin{{tabular}}{{l{'c' * len(table.columns)}}}",
        r"\toprule",
        _line("", table.columns),
        r"\midrule",
    ]
    published = False
    for row in table.rows:
        if row.published and not published:
            lines.append(r"\midrule")
        published = row.published
        lines.append(_line(row.name, row.cells))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _spreads(summary: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(spread(summary[name]) if name in summary else "-" for name in names)


def _p_rows(result: Mapping[str, Any], names: Sequence[str]) -> list[Row]:
    """Return p as in the paper, exact and adjusted, of A1 against A2; nothing without A2."""
    tests = {t["measure"]: t for t in result["tests"] if t["algorithms"] == _PAIR}
    kinds = {
        "p": "p, A1 against A2", "p_exact": "exact p", "p_adjusted": "p, adjusted in its family",
    }  # fmt: skip
    p_values = {kind: [tests.get(name, {}).get(kind) for name in names] for kind in kinds}
    return [
        Row(kinds[kind], tuple("-" if p is None else f"{p:.4f}" for p in values))
        for kind, values in p_values.items()
        if any(p is not None for p in values)
    ]


def _median(summary: Mapping[str, Any] | None) -> str:
    known = summary is not None and summary["median"] is not None
    return f"{summary['median']:.3g}" if summary is not None and known else "-"


def _note(result: Mapping[str, Any], data: str) -> str:
    """Say what the rows rest on, and why there is no p where there is none."""
    sentences = [
        f"{len(result['cases'])} {data}; rows marked published are the paper's, of other data."
    ]
    reasons = dict.fromkeys(
        t["reason"] for t in result["tests"] if t["algorithms"] == _PAIR and t["reason"]
    )
    sentences += [f"No p-value: {reason}." for reason in reasons]
    return " ".join(sentences)


def _line(name: str, cells: Iterable[str]) -> str:
    return " & ".join(_escaped(text) for text in (name, *cells)) + r" \\"


def _escaped(text: str) -> str:
    for plain, latex in (
        ("\\", r"\textbackslash{}"), ("&", r"\&"), ("%", r"\%"), ("_", r"\_"), ("#", r"\#"),
        ("±", r"$\pm$"), ("·", r"$\cdot$"), ("φ", r"$\varphi$"),
    ):  # fmt: skip
        text = text.replace(plain, latex)
    return text

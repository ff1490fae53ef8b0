"""The paper's tables 1 and 2 for a study of one's own, the published values beside them.

Values are those of an evaluation's `cases` (schemas/evaluation); a score that is null counts in no
mean, and how many were left out is told.
"""

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Cases = Sequence[Mapping[str, Any]]
# Measure, such as "dice.R1" or "detection.lesion.mean.f1", to p of A1 against A2.
PValues = Mapping[str, float]

PUBLISHED_SEGMENTATION = {
    "A1 multi-model": ("0.732 ± 0.210", "0.744 ± 0.200", "0.738 ± 0.189", "0.738 ± 0.194",
                       "0.873 ± 0.082"),
    "A2 single": ("0.689 ± 0.214", "0.714 ± 0.195", "0.697 ± 0.190", "0.700 ± 0.196",
                  "0.852 ± 0.082"),
    "p": ("0.0017", "0.0269", "0.0029", "0.0025", "0.0022"),
}  # fmt: skip
PUBLISHED_BETWEEN_RATERS = "0.781 ± 0.121"
PUBLISHED_RATERS = 3
PUBLISHED_DETECTION = {
    "A1 multi-model": ("0.710", "0.566", "0.589", "2.3"),
    "A2 single": ("0.748", "0.418", "0.490", "6"),
    "raters": ("0.804", "0.787", "0.761", "1"),
}
_SCORES = ("recall", "precision", "f1")


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    cells: tuple[str, ...]
    published: bool = False
    """From the paper: other data than the rows above it."""


@dataclass(frozen=True)
class Table:
    """A table as text, ready for HTML, CSV and LaTeX."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def segmentation(cases: Cases, p_values: PValues) -> Table:
    """Return table 1: Dice with each rater, their mean and phi; mean ± SD over the cases."""
    raters = _raters(cases)
    measures = [*(f"dice.{rater}" for rater in raters), "dice.mean", "phi"]
    rows, left_out = [], 0
    for name in _algorithms(cases):
        scores = [[_value(case["algorithms"][name], m) for case in cases] for m in measures]
        left_out += sum(value is None for column in scores for value in column)
        rows.append(Row(name, tuple(_mean_sd(column) for column in scores)))
    if p_values:
        rows.append(Row("p, Wilcoxon", tuple(_p(p_values.get(m)) for m in measures)))
    among = [statistics.mean(v) for case in cases if (v := list(case["rater_dice"].values()))]
    between = _mean_sd(among) if among else "-"
    rows.append(Row("between raters", (*[""] * len(raters), between, "")))
    # The paper's raters are three people, and in another column than ours where there are others.
    beside = len(raters) == PUBLISHED_RATERS
    for name, cells in PUBLISHED_SEGMENTATION.items():
        shown = cells if beside else (*[""] * len(raters), *cells[-2:])
        rows.append(Row(f"{name}, published", shown, published=True))
    between_cells = (*[""] * len(raters), PUBLISHED_BETWEEN_RATERS, "")
    rows.append(Row("between raters, published", between_cells, published=True))
    columns = (*(f"D(·, {rater})" for rater in raters), "mean", "φ")
    return Table("Segmentation", columns, tuple(rows), _notes(len(cases), left_out))


def detection(cases: Cases, p_values: PValues, unit: str = "lesion") -> Table:
    """Return table 2: per algorithm recall, precision, F1 (mean) and false positives (median).

    Of each case the mean over its raters counts. `unit`: "lesion" or "correspondence".
    """
    rows, left_out = [], 0
    for name in _algorithms(cases):
        found = [list(case["algorithms"][name]["detection"][unit].values()) for case in cases]
        means = []
        for score in _SCORES:
            of_cases = [_mean(counts[score] for counts in raters) for raters in found]
            left_out += sum(value is None for value in of_cases)
            means.append(_number(_mean(of_cases)))
        false = [m for raters in found if (m := _mean(c["fp"] for c in raters)) is not None]
        median = f"{statistics.median(false):.3g}" if false else "-"
        rows.append(Row(name, (*means, median)))
    if p_values:
        told = [_p(p_values.get(f"detection.{unit}.mean.{score}")) for score in _SCORES]
        rows.append(Row("p, Wilcoxon", (*told, "")))
    if unit == "lesion":
        rows += [
            Row(f"{name}, published", cells, published=True)
            for name, cells in PUBLISHED_DETECTION.items()
        ]
    columns = ("recall", "precision", "F1", "false positives, median")
    title = f"Detection, counted by {unit}"
    return Table(title, columns, tuple(rows), _notes(len(cases), left_out))


def as_csv(table: Table) -> str:
    """Return comma-separated values with a header."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([table.title, *table.columns])
    writer.writerows([row.name, *row.cells] for row in table.rows)
    return target.getvalue()


def as_latex(table: Table) -> str:
    """Return a LaTeX table for the package booktabs."""
    lines = [
        r"\begin{table}",
        rf"\caption{{{_escaped(' '.join((table.title + '.', *table.notes)))}}}",
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


def _line(name: str, cells: Iterable[str]) -> str:
    return " & ".join(_escaped(text) for text in (name, *cells)) + r" \\"


def _escaped(text: str) -> str:
    for plain, latex in (
        ("\\", r"\textbackslash{}"), ("&", r"\&"), ("%", r"\%"), ("_", r"\_"), ("#", r"\#"),
        ("±", r"$\pm$"), ("·", r"$\cdot$"), ("φ", r"$\varphi$"),
    ):  # fmt: skip
        text = text.replace(plain, latex)
    return text


def _algorithms(cases: Cases) -> list[str]:
    return list(dict.fromkeys(name for case in cases for name in case["algorithms"]))


def _raters(cases: Cases) -> list[str]:
    found = {
        rater
        for case in cases
        for algorithm in case["algorithms"].values()
        for rater in algorithm["dice"]
    }
    return sorted(found - {"mean"})


def _value(algorithm: Mapping[str, Any], measure: str) -> float | None:
    found: Any = algorithm
    for part in measure.split("."):
        # A case that one rater has not contoured has no such entry.
        found = found.get(part) if isinstance(found, Mapping) else None
    return None if found is None else float(found)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def _mean_sd(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.3f}{spread}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _notes(cases: int, left_out: int) -> tuple[str, ...]:
    told = f"{cases} test cases" if cases != 1 else "1 test case: no spread and no p-value"
    if left_out:
        return f"{told}.", f"{left_out} undefined values count in no mean."
    return (f"{told}.",)

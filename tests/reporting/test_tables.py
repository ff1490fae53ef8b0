import copy
import csv
import io
import itertools
from typing import Any

import numpy as np
import pytest

from liverseg.core.evaluation.case import evaluate_case
from liverseg.core.evaluation.delineation import Delineation
from liverseg.reporting import tables
from liverseg.steps.results.evaluation_document import document

ALGORITHMS = ("A1", "A2", "threshold")


def ball(centre: int, radius: int) -> Delineation:
    z, y, x = np.ogrid[:12, :40, :40]
    mask = (z - 6) ** 2 + (y - 20) ** 2 + (x - centre) ** 2 <= radius**2
    return Delineation.of(mask, (1.0, 1.0, 1.0))


def result(cases: int, raters: int = 3) -> dict[str, Any]:
    entries = [
        evaluate_case(
            f"case {n}",
            {f"R{r + 1}": ball(20 + r, 5) for r in range(raters)},
            {"A1": ball(20, 5 - n % 2), "A2": ball(24 + n % 3, 5), "threshold": ball(8, 3)},
        )
        for n in range(cases)
    ]
    return document(entries, [f"R{r + 1}" for r in range(raters)], ALGORITHMS)


@pytest.fixture(scope="module")
def eight() -> dict[str, Any]:
    return result(8)


def rows(table: tables.PaperTable) -> dict[str, tuple[str, ...]]:
    return {row.name: row.cells for row in table.rows}


def test_table_1_is_the_papers_with_its_values_marked_below_ours(eight: dict[str, Any]) -> None:
    table = tables.segmentation(eight, "synthetic test cases")
    assert table.columns == ("D(·, R1)", "D(·, R2)", "D(·, R3)", "mean", "φ")
    cells = rows(table)
    means = [c["algorithms"]["A1"]["dice"]["mean"] for c in eight["cases"]]
    expected = f"{np.mean(means):.3f} ± {np.std(means, ddof=1):.3f}"
    assert cells["A1"][3] == expected
    (test,) = [
        t for t in eight["tests"] if (t["algorithms"], t["measure"]) == (["A1", "A2"], "phi")
    ]
    assert cells["p, A1 against A2"][-1] == f"{test['p']:.4f}"
    assert cells["exact p"][-1] == f"{test['p_exact']:.4f}"
    assert cells["A2 baseline, published"][0] == "0.689 ± 0.214"
    published = [row for row in table.rows if row.published]
    assert all(row.name.endswith("published") for row in published)
    assert table.rows[-len(published) :] == tuple(published)
    assert table.note.startswith("8 synthetic test cases; rows marked published are the paper's")


def test_table_2_has_the_raters_beside_the_algorithms(eight: dict[str, Any]) -> None:
    table = tables.detection(eight, "test cases")
    cells = rows(table)
    assert cells["A1, mean"] == ("1.000 ± 0.000", "1.000 ± 0.000", "1.000 ± 0.000", "0")
    assert cells["threshold, mean"][3] == "1"
    assert cells["raters, mean"][0] == "1.000 ± 0.000"
    assert cells["raters, mean, published"] == ("0.804", "0.787", "0.761", "1")
    assert all(len(row.cells) == len(table.columns) for row in table.rows)
    assert "only the means over the raters are at hand" in table.note
    by_correspondence = tables.detection(eight, "x", "correspondence")
    assert not any(r.published for r in by_correspondence.rows)
    assert "published values" not in by_correspondence.note
    assert "A1, R2" in rows(by_correspondence)


def test_table_2_has_a_row_for_every_rater_and_the_mean_and_all_tests(
    eight: dict[str, Any],
) -> None:
    """Values that differ by score, algorithm and rater, so that none can stand for another."""
    scores, references = ("recall", "precision", "f1"), ("R1", "R2", "R3", "mean")
    document = copy.deepcopy(eight)
    number = itertools.count(1)
    for name in ALGORITHMS:
        for reference, score in itertools.product(references, (*scores, "fp")):
            values = document["summary"][name][f"lesion.{score}.{reference}"]
            values |= {"mean": next(number) / 1000, "median": next(number), "sd": None, "n_nan": 0}
    tested = {}
    for test in document["tests"]:
        if test["algorithms"] == ["A1", "A2"]:
            for kind in ("p", "p_exact", "p_adjusted"):
                test[kind] = next(number) / 10000
            tested[test["measure"]] = test
    cells = rows(tables.detection(document, "test cases"))
    for reference in references:
        for name in ALGORITHMS:
            summary = document["summary"][name]
            expected = [f"{summary[f'lesion.{s}.{reference}']['mean']:.3f}" for s in scores]
            median = f"{summary[f'lesion.fp.{reference}']['median']}"
            assert cells[f"{name}, {reference}"] == (*expected, median)
        for kind, row in (
            ("p", "p, A1 against A2"), ("p_exact", "exact p"),
            ("p_adjusted", "p, adjusted in its family"),
        ):  # fmt: skip
            p_values = [f"{tested[f'lesion.{s}.{reference}'][kind]:.4f}" for s in scores]
            assert cells[f"{row}, {reference}"] == (*p_values, "")
    detection_tests = [t for t in tested.values() if t["family"] == "detection"]
    assert len(detection_tests) == 12 == sum("p, A1 against" in name for name in cells) * 3
    # Of the raters among themselves only the mean is known.
    assert [name for name in cells if name.startswith("raters")] == [
        "raters, mean", "raters, mean, published"
    ]  # fmt: skip


def test_with_two_raters_the_published_columns_are_not_set_below_ours() -> None:
    table = tables.segmentation(result(2, raters=2), "test cases")
    assert rows(table)["A1 multi-model, published"] == ("", "", "0.738 ± 0.194", "0.873 ± 0.082")


def test_one_case_and_one_rater_have_no_p_no_spread_and_say_why() -> None:
    table = tables.segmentation(result(1, raters=1), "test case")
    assert "±" not in rows(table)["A1"][0]
    assert rows(table)["A1"][-1] == "-"
    assert "between raters" not in rows(table)
    assert "p, A1 against A2" not in rows(table)
    assert "No p-value:" in table.note


def test_csv_reads_back(eight: dict[str, Any]) -> None:
    table = tables.segmentation(eight, "test cases")
    read = list(csv.reader(io.StringIO(tables.as_csv(table))))
    assert read[0] == ["Segmentation", *table.columns]
    assert read[1:] == [[row.name, *row.cells] for row in table.rows]


def test_latex_escapes_and_has_a_cell_for_every_column() -> None:
    text = tables.as_latex(
        tables.PaperTable(1, "50 % & more", ("a_b",), (tables.Row("x#1", ("1 ± 2",)),), "note.")
    )
    assert r"\caption{50 \% \& more. note.}" in text
    assert r"x\#1 & 1 $\pm$ 2 \\" in text
    assert r" & a\_b \\" in text

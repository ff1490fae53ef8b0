import csv
import io
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
    assert cells["A1"] == ("1.000 ± 0.000", "1.000 ± 0.000", "1.000 ± 0.000", "0")
    assert cells["threshold"][3] == "1"
    assert cells["raters"][0] == "1.000 ± 0.000"
    assert cells["raters, published"] == ("0.804", "0.787", "0.761", "1")
    assert len(cells["p, A1 against A2"]) == len(table.columns)
    assert not any(r.published for r in tables.detection(eight, "x", "correspondence").rows)


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

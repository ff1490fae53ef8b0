import csv
import io

from liverseg.reporting import tables


def counts(tp: int, fp: int, fn: int, recall: float | None, precision: float | None):
    return {
        "tp": tp, "fp": fp, "fn": fn, "recall": recall, "precision": precision, "f1": recall,
    }  # fmt: skip


def case(name: str, a1: float, a2: float, fp: int = 0, recall: float | None = 0.5):
    def algorithm(dice: float):
        return {
            "dice": {"R1": dice, "R2": dice, "mean": dice},
            "phi": dice,
            "detection": {
                unit: {r: counts(1, fp, 1, recall, 0.25) for r in ("R1", "R2")}
                for unit in ("lesion", "correspondence")
            },
        }

    return {
        "case": name,
        "rater_dice": {"R1-R2": 0.8},
        "algorithms": {"A1": algorithm(a1), "A2": algorithm(a2)},
    }


CASES = [case("a", 0.7, 0.5, fp=1), case("b", 0.9, 0.5, fp=8, recall=None)]
P = {"dice.R1": 0.01, "dice.mean": 0.5, "phi": 0.25, "detection.lesion.mean.recall": 0.03}


def rows(table: tables.Table) -> dict[str, tuple[str, ...]]:
    return {row.name: row.cells for row in table.rows}


def test_table_1_has_means_spread_p_and_the_published_values_marked() -> None:
    table = tables.segmentation(CASES, P)
    assert table.columns == ("D(·, R1)", "D(·, R2)", "mean", "φ")
    found = rows(table)
    assert found["A1"] == ("0.800 ± 0.141",) * 4
    assert found["p, Wilcoxon"] == ("0.0100", "-", "0.5000", "0.2500")
    assert found["between raters"] == ("", "", "0.800 ± 0.000", "")
    # Two raters here, three in the paper: only its mean and phi stand in a column of ours.
    assert found["A1 multi-model, published"] == ("", "", "0.738 ± 0.194", "0.873 ± 0.082")
    published = [row for row in table.rows if row.published]
    assert all(row.name.endswith("published") for row in published)
    assert table.rows[-len(published) :] == tuple(published)
    assert table.notes == ("2 test cases.",)


def test_table_2_means_over_raters_leave_out_what_is_undefined_and_say_so() -> None:
    table = tables.detection(CASES, P)
    assert rows(table)["A1"] == ("0.500", "0.250", "0.500", "4.5")
    assert rows(table)["p, Wilcoxon"] == ("0.0300", "-", "-", "")
    assert table.notes == ("2 test cases.", "4 undefined values count in no mean.")
    assert rows(table)["raters, published"] == ("0.804", "0.787", "0.761", "1")
    assert not any(r.published for r in tables.detection(CASES, {}, "correspondence").rows)


def test_one_case_has_no_spread_and_says_so() -> None:
    table = tables.segmentation(CASES[:1], {})
    assert rows(table)["A1"] == ("0.700",) * 4
    assert "p, Wilcoxon" not in rows(table)
    assert table.notes == ("1 test case: no spread and no p-value.",)


def test_csv_reads_back() -> None:
    table = tables.segmentation(CASES, P)
    read = list(csv.reader(io.StringIO(tables.as_csv(table))))
    assert read[0] == ["Segmentation", *table.columns]
    assert read[1:] == [[row.name, *row.cells] for row in table.rows]


def test_latex_escapes_and_has_a_cell_for_every_column() -> None:
    text = tables.as_latex(
        tables.Table("50 % & more", ("a_b",), (tables.Row("x#1", ("1 ± 2",)),), ("note.",))
    )
    assert r"\caption{50 \% \& more. note.}" in text
    assert r"x\#1 & 1 $\pm$ 2 \\" in text
    assert r" & a\_b \\" in text

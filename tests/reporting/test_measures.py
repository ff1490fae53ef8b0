"""One row of liverseg/core/evaluation/measures.py reaches everything that shows a measure."""

import csv
import io

import numpy as np
import pytest

from liverseg.core.evaluation.measures import (
    ALL,
    EVALUATION_VERSION,
    HEADLINES,
    MEASURES,
    SCORES,
    UNITS,
    Measure,
    Pair,
    relative_volume_difference,
)
from liverseg.reporting import evaluation, evaluation_page
from tests.reporting.test_tables import ball, result
from tests.steps.test_evaluate_external import valid

RATERS = ["R1", "R2", "R3"]


@pytest.fixture(scope="module")
def document() -> dict:
    return valid(result(3))


def test_these_measures_belong_to_this_version() -> None:
    """Raise EVALUATION_VERSION when this has to change, so that studies are evaluated again."""
    names = " ".join(measure.name for measure in ALL)
    assert names == "dice phi jaccard hd_mm hd95_mm assd_mm rvd recall precision f1 fp"
    assert EVALUATION_VERSION == 3


@pytest.mark.parametrize("measure", ALL, ids=lambda measure: measure.name)
def test_a_row_is_in_the_json_the_csv_and_the_tables(measure: Measure, document: dict) -> None:
    names = {name for name in measure.names(RATERS) if name != measure.mean_name}
    assert {*names, measure.mean_name} <= document["summary"]["A1"].keys()
    header = next(csv.reader(io.StringIO(evaluation.csv_text(document))))
    assert {*names, measure.mean_name} <= set(header)
    heads = [column for table in evaluation.tables(document) for column in table.columns]
    assert measure.head in heads


@pytest.mark.parametrize("measure", ALL, ids=lambda measure: measure.name)
def test_a_row_is_tested_in_its_family_and_no_other(measure: Measure, document: dict) -> None:
    tested = {test["measure"]: test["family"] for test in document["tests"]}
    names = measure.names(RATERS)
    expected = dict.fromkeys(names, measure.family) if measure.family else {}
    assert {name: tested[name] for name in names if name in tested} == expected


def test_the_page_has_every_measure_and_of_each_case_the_headlines(document: dict) -> None:
    page = evaluation_page.html(document)
    assert [m.name for m in ALL if f"<th>{m.head}</th>" not in page] == []
    cases = page[page.index("<h2>Cases, mean over raters</h2>") :]
    assert [head for head in HEADLINES.values() if f"<th>{head}</th>" not in cases] == []


def test_every_value_of_the_json_has_a_row(document: dict) -> None:
    rows = {m.name for m in MEASURES} | {f"{unit}.{s.name}" for unit in UNITS for s in SCORES}
    values = document["summary"]["A1"]
    assert {name if name in rows else name.rpartition(".")[0] for name in values} == rows


def test_names_and_heads_are_used_once() -> None:
    assert len({measure.name for measure in ALL}) == len(ALL)
    assert len({measure.head for measure in ALL}) == len(ALL)


def test_the_relative_volume_difference_is_that_of_the_voxels() -> None:
    small, large, none = ball(20, 2), ball(10, 4), ball(20, 3).within(np.zeros((12, 40, 40), bool))
    expected = large.voxels / small.voxels - 1
    assert relative_volume_difference(Pair(large, small)) == pytest.approx(expected)
    assert relative_volume_difference(Pair(none, large)) == -1
    assert relative_volume_difference(Pair(none, none)) is None

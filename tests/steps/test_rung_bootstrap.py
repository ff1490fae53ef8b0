from typing import Any

import pytest

from liverseg.race.records import facts
from liverseg.settings import from_mapping
from liverseg.steps.race import race
from liverseg.steps.report import rung_bootstrap, rung_page
from liverseg.steps.report.curves import read_curves
from liverseg.storage import record
from tests.race.rehearsal import SETTINGS, Rehearsal
from tests.steps.test_report import Page

# Around a validation's mean; they add up to nothing.
EASY_AND_HARD = (-0.02, -0.01, 0.0, 0.01, 0.02)


def with_cases(rehearsal: Rehearsal, around: dict[int, tuple[float, ...]]) -> Rehearsal:
    """Give every recorded validation several cases, by seed this far from its mean."""
    store, study = rehearsal.store, rehearsal.study.id
    for key in store.keys(f"studies/{study}/curves/"):
        point = record.read(store, key)
        away = around.get(point["seed"], EASY_AND_HARD)
        point["cases"] = {f"case_{n}": point["jaccard"] + d for n, d in enumerate(away)}
        record.write(store, key, point)
    return rehearsal


def assessed(rehearsal: Rehearsal) -> list[dict[str, Any]]:
    status = race.status(rehearsal.store, rehearsal.study.id)
    curves = read_curves(rehearsal.store, rehearsal.study.id)
    return rung_bootstrap.of_race(rehearsal.study, status, curves)


def test_a_race_between_seeds_far_apart_was_sure() -> None:
    rehearsal = Rehearsal()
    rehearsal.run()
    rungs = assessed(with_cases(rehearsal, {}))
    assert [f["iterations"] for f in rungs] == [2, 4, 8]
    assert [[(s["seed"], s["promoted"], s["share"]) for s in f["seeds"]] for f in rungs] == [
        [(3, True, 1.0), (2, True, 1.0), (1, False, 0.0), (0, False, 0.0)],
        [(3, True, 1.0), (2, False, 0.0)],
        [(3, True, 1.0)],
    ]
    assert [(f["repeated"], f["inside_noise"], f["cases"]) for f in rungs] == [(1.0, False, 5)] * 3


def near_tie(seed: int, iteration: int) -> float:
    """Seeds 1 and 2 differ by a hair where two of four go on; what goes on learns more."""
    return {0: 0.2, 1: 0.5, 2: 0.501, 3: 0.8}[seed] + 0.03 * (iteration - 2)


def test_a_rung_that_was_decided_by_a_hair_is_flagged_on_its_page(tmp_path) -> None:
    rehearsal = Rehearsal(score=near_tie)
    rehearsal.run()
    with_cases(rehearsal, {1: EASY_AND_HARD[::-1]})
    first, second, last = assessed(rehearsal)
    shares = {s["seed"]: s["share"] for s in first["seeds"]}
    assert shares[3] == 1.0
    assert shares[0] == 0.0
    assert 0.3 < shares[1] < 0.7
    assert shares[1] + shares[2] == pytest.approx(1)
    assert first["inside_noise"]
    assert [s["seed"] for s in first["seeds"] if s["inside_noise"]] == [2, 1]
    assert not second["inside_noise"]
    assert not last["inside_noise"]

    status = race.status(rehearsal.store, rehearsal.study.id)
    rung_page.write(rehearsal.store, rehearsal.study, status, 0, tmp_path / "0.html")
    page = Page((tmp_path / "0.html").read_text(encoding="utf-8"))
    assert "decided inside the noise" in page.text
    heading = next(i for i, row in enumerate(page.rows) if row[0] == "seed")
    assert [(row[0], row[1], row[2], row[4]) for row in page.rows[heading + 1 :]] == [
        ("3", "0.8000", "goes on", ""),
        ("2", "0.5010", "goes on", "inside the noise"),
        ("1", "0.5000", "ends", "inside the noise"),
        ("0", "0.2000", "ends", ""),
    ]
    assert page.rows[heading + 1][3] == " 100 %"
    rung_page.write(rehearsal.store, rehearsal.study, status, 1, tmp_path / "1.html")
    assert "not inside the noise" in Page((tmp_path / "1.html").read_text(encoding="utf-8")).text


def test_what_ranks_the_race_ranks_the_resamples() -> None:
    def falling(seed: int, iteration: int) -> float:
        """Seed 0 was the best once, and is the worst at the first rung."""
        return 0.9 if (seed, iteration) == (0, 2) else 0.1 * seed + 0.01 * iteration

    winners = {}
    for metric in ("best", "last"):
        settings = from_mapping(
            {"race": {"minimum_iterations": 4, "rung_metric": metric}}, SETTINGS
        )
        rehearsal = Rehearsal(score=falling, settings=settings)
        rehearsal.run()
        rung = assessed(with_cases(rehearsal, {}))[0]
        winners[metric] = {s["seed"] for s in rung["seeds"] if s["share"] == 1.0}
        assert winners[metric] == {s["seed"] for s in rung["seeds"] if s["promoted"]}
    assert winners == {"best": {0, 3}, "last": {2, 3}}


def test_fewer_than_five_cases_are_not_assessed(tmp_path) -> None:
    rehearsal = Rehearsal()
    rehearsal.run()
    with_cases(rehearsal, dict.fromkeys(range(4), EASY_AND_HARD[:4]))
    (rung, *_) = assessed(rehearsal)
    assert rung["why_not"] == "4 validation cases, at least 5 are needed"
    assert rung["repeated"] is None
    status = race.status(rehearsal.store, rehearsal.study.id)
    rung_page.write(rehearsal.store, rehearsal.study, status, 0, tmp_path / "0.html")
    page = Page((tmp_path / "0.html").read_text(encoding="utf-8"))
    assert "Rung 0: not assessable (4 validation cases, at least 5 are needed)" in page.text


def test_a_curve_that_is_not_there_is_said_to_be_missing() -> None:
    rehearsal = Rehearsal()
    rehearsal.run()
    with_cases(rehearsal, {})
    store, study = rehearsal.store, rehearsal.study.id
    store.delete(store.keys(facts.curves_prefix(study, 1) + "2-a0")[0])
    assert assessed(rehearsal)[0]["why_not"] == "validations of seed 1 are missing or lack a case"
    (key,) = store.keys(facts.curves_prefix(study, 3) + "4-a0")
    point = record.read(store, key)
    del point["cases"]["case_2"]
    record.write(store, key, point)
    assert assessed(rehearsal)[1]["why_not"] == "validations of seed 3 are missing or lack a case"

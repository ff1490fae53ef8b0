import numpy as np
import pytest

from liverseg.core.evaluation.case import evaluate_case, measures, rater_measures
from liverseg.core.evaluation.comparison import (
    families,
    paired_tests,
    rater_summary,
    recall_by_diameter,
    summary,
)
from liverseg.core.evaluation.delineation import Delineation

SPACING = (4.0, 1.0, 2.0)


def drawn(*boxes: tuple[int, int], length: int = 40) -> Delineation:
    """Lesions along x of 2 x 2 voxels, from the first number of a box up to the second."""
    mask = np.zeros((4, 4, length), bool)
    for start, stop in boxes:
        mask[1:3, 1:3, start:stop] = True
    return Delineation.of(mask, SPACING)


def case(name: str = "one", **algorithms: Delineation) -> dict:
    raters = {"R1": drawn((0, 10), (20, 30)), "R2": drawn((0, 10)), "R3": drawn((0, 5))}
    return evaluate_case(name, raters, algorithms)


def test_every_measure_of_a_case_by_hand() -> None:
    evaluation = case(A1=drawn((0, 10)))
    assert evaluation["rater_dice"] == {
        "R1-R2": pytest.approx(2 / 3), "R1-R3": pytest.approx(0.4), "R2-R3": pytest.approx(2 / 3)
    }  # fmt: skip
    values = evaluation["algorithms"]["A1"]
    dice = {"R1": 2 / 3, "R2": 1.0, "R3": 2 / 3, "mean": 7 / 9}
    assert values["dice"] == pytest.approx(dice)
    assert values["jaccard"] == pytest.approx({"R1": 0.5, "R2": 1, "R3": 0.5, "mean": 2 / 3})
    error = 1 - (2 / 3 + 0.4 + 2 / 3) / 3
    assert values["phi"] == pytest.approx(1 - 0.1 * (2 / 9) / error)
    # The second lesion ends at x = 29, ten voxels of 2 mm and more beyond x = 9.
    assert values["hd_mm"] == pytest.approx({"R1": 40, "R2": 0, "R3": 10, "mean": 50 / 3})
    lesion = values["detection"]["lesion"]
    assert lesion["R1"] == {
        "tp": 1, "fp": 0, "fn": 1, "recall": 0.5, "precision": 1, "f1": pytest.approx(2 / 3)
    }  # fmt: skip
    assert lesion["mean"]["recall"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert values["detection"]["found"]["R1"] == [True, False]
    assert measures(evaluation, "A1")["lesion.recall.R1"] == 0.5
    assert measures(evaluation, "A2") == {}


def test_raters_are_compared_among_themselves_both_ways() -> None:
    values = rater_measures(case(A1=drawn()))
    assert values["dice.R1-R2"] == pytest.approx(2 / 3)
    assert (values["lesion.recall.R1-R2"], values["lesion.recall.R2-R1"]) == (1, 0.5)
    assert values["lesion.recall.mean"] == pytest.approx((1 + 1 + 0.5 + 1 + 0.5 + 1) / 6)
    assert values["lesion.fp.R1-R2"] == 1


def test_one_rater_leaves_agreement_absent() -> None:
    evaluation = evaluate_case("one", {"R1": drawn((0, 5))}, {"A1": drawn((0, 5))})
    assert (evaluation["rater_dice"], evaluation["rater_detection"]) == ({}, {})
    assert evaluation["algorithms"]["A1"]["phi"] is None
    assert evaluation["raters_identical"] is False
    assert rater_summary([evaluation]) == {}
    by_name = {test["measure"]: test for test in paired_tests([evaluation], ["A1", "A2"], ["R1"])}
    assert by_name["phi"]["p"] is None


def test_no_lesion_anywhere_is_full_overlap_and_nothing_to_detect() -> None:
    none = drawn()
    evaluation = evaluate_case("none", {"R1": none, "R2": none}, {"A1": none, "A2": drawn((3, 6))})
    same, wrong = (evaluation["algorithms"][name] for name in ("A1", "A2"))
    assert (same["dice"]["mean"], same["phi"], same["hd_mm"]["mean"]) == (1, 1, None)
    assert evaluation["raters_identical"]
    nothing = {"tp": 0, "fp": 0, "fn": 0, "recall": None, "precision": None, "f1": None}
    assert same["detection"]["lesion"]["R1"] == nothing
    assert (wrong["dice"]["mean"], wrong["phi"], wrong["hd95_mm"]["R1"]) == (0, 0, None)
    scores = wrong["detection"]["lesion"]["mean"]
    assert scores == {"recall": None, "precision": 0, "f1": 0, "fp": 1}
    figures = summary([evaluation], "A1")
    assert (figures["lesion.recall.mean"]["n"], figures["lesion.recall.mean"]["n_nan"]) == (0, 1)


def test_a_hole_in_a_mask_counts_as_outside() -> None:
    mask = np.zeros((7, 7, 7), bool)
    mask[1:6, 1:6, 1:6] = True
    hollow = mask.copy()
    hollow[3, 3, 3] = False
    one, other = (Delineation.of(m, (1.0, 1.0, 1.0)) for m in (mask, hollow))
    values = evaluate_case("hole", {"R1": one}, {"A1": other})["algorithms"]["A1"]
    assert values["dice"]["R1"] == pytest.approx(248 / 249)
    assert values["hd_mm"]["R1"] == 1  # from a voxel beside the hole to the outer border
    assert values["detection"]["lesion"]["R1"]["tp"] == 1


def test_three_raters_make_families_of_5_and_12() -> None:
    names_by_family = families(["R1", "R2", "R3"])
    assert [len(names) for names in names_by_family.values()] == [5, 12]
    assert names_by_family["segmentation"] == ["dice.R1", "dice.R2", "dice.R3", "dice.mean", "phi"]


def study(count: int) -> list[dict]:
    rng = np.random.default_rng(4)
    return [
        case(
            f"case {n}",
            A1=drawn((0, int(rng.integers(7, 11))), (20, 30)),
            A2=drawn((int(rng.integers(2, 6)), 10)),
            A3=drawn((0, 4)),
        )
        for n in range(count)
    ]


def test_every_pair_of_algorithms_is_tested_and_adjusted_in_its_own_family() -> None:
    rows = paired_tests(study(12), ["A1", "A2", "A3"], ["R1", "R2", "R3"])
    assert len(rows) == 3 * 17
    first = [r for r in rows if r["algorithms"] == ["A1", "A2"] and r["family"] == "segmentation"]
    assert len(first) == 5
    # By hand: p * 5 / rank from the largest down, never rising.
    ordered = sorted(first, key=lambda row: row["p"])
    lowest = 1.0
    for rank in range(5, 0, -1):
        lowest = min(lowest, ordered[rank - 1]["p"] * 5 / rank)
        assert ordered[rank - 1]["p_adjusted"] == pytest.approx(lowest)
    assert [r["rejected"] for r in first] == [r["p_adjusted"] <= 0.05 for r in first]
    assert {r["rejected"] for r in rows} == {True, False}


def test_identical_algorithms_have_p_1() -> None:
    same = drawn((0, 7))
    cases = [case(str(n), A1=same, A2=same) for n in range(3)]
    rows = paired_tests(cases, ["A1", "A2"], ["R1", "R2", "R3"])
    assert {(r["p"], r["p_exact"], r["rejected"]) for r in rows} == {(1.0, 1.0, False)}


def test_one_case_has_no_p_value_and_says_why() -> None:
    rows = paired_tests(study(1), ["A1", "A2"], ["R1", "R2", "R3"])
    assert {r["p"] for r in rows} == {None}
    assert all("a paired test needs 2" in r["reason"] for r in rows)


def test_recall_by_diameter_pools_the_lesions_of_all_cases() -> None:
    # 4 x 4 x 2 mm a step along x: 10 voxels are 320 mm3, a sphere of 8.5 mm; 40 are 13.5 mm.
    raters = {"R1": drawn((0, 10), (20, 60), length=70)}
    cases = [evaluate_case(str(n), raters, {"A1": drawn((20, 60), length=70)}) for n in range(2)]
    small, middle, large = recall_by_diameter(cases, "A1", "R1")
    assert (small["references"], small["found"], small["recall"]) == (2, 0, 0)
    assert (middle["from_mm"], middle["below_mm"]) == (10, 20)
    assert (middle["references"], middle["recall"]) == (2, 1)
    assert (large["references"], large["recall"], large["below_mm"]) == (0, None, None)

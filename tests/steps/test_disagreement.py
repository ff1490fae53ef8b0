import itertools

import numpy as np
import pytest

from liverseg.core.evaluation.overlap import dice
from liverseg.errors import IntegrityError, StudyError
from liverseg.settings import from_mapping
from liverseg.steps.data.cases import (
    load_case,
    load_probability,
    prediction_prefix,
    segmentation_prefix,
    votes_prefix,
)
from liverseg.steps.results import disagreement, predict, result_keys
from liverseg.steps.results.evaluate import load_segmentation
from liverseg.steps.results.postprocess import segment
from liverseg.steps.study import checkpoints
from liverseg.storage import bundle, record
from liverseg.storage.memory import MemoryStore
from tests.race.rehearsal import SETTINGS, Rehearsal
from tests.steps.tiny_study import finished_study, study_in

TEST_KEY = "key2"


@pytest.fixture(scope="module")
def finished():
    return finished_study()


@pytest.fixture
def store(finished) -> MemoryStore:
    """The finished study's store, one for each test."""
    copy = MemoryStore()
    copy.objects.update(finished[0].objects)
    return copy


@pytest.fixture
def study(finished):
    return finished[1]


def forget(store: MemoryStore, study, weights_sha256: str) -> None:
    """Remove the comparison and all that a network said of the test case."""
    store.delete(result_keys.disagreement_key(study.id))
    for prefix_of in (prediction_prefix, segmentation_prefix):
        bundle.delete(store, prefix_of(weights_sha256, TEST_KEY))


def slowly_rising(seed: int, iteration: int) -> float:
    return 0.02 * seed + 0.01 * iteration


def sixteen_seeds() -> Rehearsal:
    race_settings = {"race": {"seeds": 16, "maximum_iterations": 32}}
    changed = from_mapping(race_settings, SETTINGS)
    rehearsal = Rehearsal(settings=changed, gpus=4, score=slowly_rising)
    rehearsal.run()
    return rehearsal


def test_of_sixteen_seeds_the_four_of_the_third_last_rung_are_compared() -> None:
    rehearsal = sixteen_seeds()
    reports = disagreement.networks(rehearsal.store, rehearsal.study)
    assert [(r.seed, r.rung, r.iterations) for r in reports] == [
        (s, 2, 8) for s in (12, 13, 14, 15)
    ]


def test_pruning_keeps_their_checkpoints() -> None:
    rehearsal = sixteen_seeds()
    store, study = rehearsal.store, rehearsal.study
    assert checkpoints.prune(store, study)["deleted"]
    reports = disagreement.networks(store, study)
    # As they were reported, though two of them went on from there.
    assert [bundle.manifest_sha256(store, r.checkpoint) for r in reports] == [
        r.checkpoint_sha256 for r in reports
    ]


def test_with_fewer_rungs_the_first_one_s_seeds_are_compared(store, study) -> None:
    result = disagreement.load(store, study.id)
    assert (result["rung"], result["iterations"]) == (0, 3)
    assert result["why_not"] is None
    reports = disagreement.networks(store, study)
    assert result["weights"] == {str(r.seed): r.weights_sha256 for r in reports}
    assert sorted(result["weights"]) == ["0", "1"]


def test_the_numbers_are_those_of_the_networks_own_segmentations(store, study) -> None:
    result = disagreement.load(store, study.id)
    case = load_case(store, TEST_KEY)
    masks = [
        segment(load_probability(store, sha256, TEST_KEY), case)
        for sha256 in result["weights"].values()
    ]
    assert len({mask.tobytes() for mask in masks}) == 2
    votes = disagreement.load_votes(store, result, TEST_KEY, "auto")
    np.testing.assert_array_equal(votes, np.sum(masks, axis=0))
    assert votes.max() > 0
    numbers = result["cases"]["test"]
    (pair,) = itertools.combinations(masks, 2)
    assert numbers["uncertainty"] == pytest.approx(1 - dice(*pair))
    winner = load_segmentation(store, result["winner"], TEST_KEY, "auto")
    assert sum(lesion["voxels"] for lesion in numbers["lesions"]) == winner.sum()
    ml = float(np.prod(case.original_geometry.spacing_mm)) / 1000
    against = 1 - votes[winner].mean() / 2
    weighted = [lesion["voxels"] * lesion["uncertainty"] for lesion in numbers["lesions"]]
    assert sum(weighted) / winner.sum() == pytest.approx(against)
    assert sum(lesion["ml"] for lesion in numbers["lesions"]) == pytest.approx(winner.sum() * ml)


def test_it_is_computed_once_for_the_same_networks(store, study) -> None:
    key = result_keys.disagreement_key(study.id)
    marked = record.read(store, key) | {"marked": True}
    record.write(store, key, marked)
    assert disagreement.run(store, study)["marked"]
    # Neither checkpoint nor prediction is needed any more.
    for report in disagreement.networks(store, study):
        bundle.delete(store, report.checkpoint)
        bundle.delete(store, prediction_prefix(report.weights_sha256, TEST_KEY))
    assert predict.ensemble(store, study) == []
    assert disagreement.run(store, study)["marked"]


@pytest.mark.parametrize("changed", ["winner", "weights", "prediction_version", "votes"])
def test_other_networks_or_votes_that_are_gone_are_computed_anew(store, study, changed) -> None:
    before = disagreement.load(store, study.id)
    if changed == "votes":
        bundle.delete(store, votes_prefix(before["weights"].values(), TEST_KEY))
        changes = {}
    else:
        changes = {changed: {"weights": {"0": "f" * 64}}.get(changed, "another")}
    record.write(store, result_keys.disagreement_key(study.id), before | changes | {"marked": True})
    assert disagreement.run(store, study) == before
    assert disagreement.load_votes(store, before, TEST_KEY, "auto").max() > 0


def test_a_checkpoint_that_was_deleted_is_named_and_nothing_fails(store, study) -> None:
    gone, _ = disagreement.networks(store, study)
    forget(store, study, gone.weights_sha256)
    bundle.delete(store, gone.checkpoint)
    (line,) = predict.ensemble(store, study)
    assert f"seed {gone.seed} cannot predict" in line
    assert gone.checkpoint in line
    result = disagreement.run(store, study)
    assert f"seed {gone.seed} at rung 0 has not predicted case test" in result["why_not"]
    assert result["cases"] == {}
    assert disagreement.load(store, study.id) == result


def test_what_was_missing_is_made_up_for_by_the_next_run(store, study) -> None:
    before = disagreement.load(store, study.id)
    report, _ = disagreement.networks(store, study)
    forget(store, study, report.weights_sha256)
    assert disagreement.run(store, study)["why_not"] is not None
    assert predict.ensemble(store, study) == []
    assert disagreement.run(store, study) == before


def test_a_checkpoint_that_is_another_one_is_refused(store, study) -> None:
    report, _ = disagreement.networks(store, study)
    forget(store, study, report.weights_sha256)
    store.put(report.checkpoint + "best.safetensors", b"other weights")
    with pytest.raises(IntegrityError, match="damaged"):
        predict.ensemble(store, study)


def test_one_network_alone_has_nobody_to_disagree_with() -> None:
    rehearsal = Rehearsal(settings=from_mapping({"race": {"seeds": 1}}, SETTINGS))
    rehearsal.run()
    result = disagreement.run(rehearsal.store, rehearsal.study)
    assert "fewer than two networks" in result["why_not"]


def test_a_race_without_a_winner_is_refused() -> None:
    store = MemoryStore()
    study = study_in(store)
    with pytest.raises(StudyError, match="has no winner yet"):
        disagreement.run(store, study)
    with pytest.raises(StudyError, match="run `liverseg postprocess` first"):
        disagreement.load(store, study.id)


def test_uncertainty_that_grows_as_the_dice_falls_is_worth_most() -> None:
    cases = {name: {"uncertainty": u} for name, u in (("a", 0.1), ("b", 0.4), ("c", 0.2))}
    result = disagreement.worth({"cases": cases}, {"a": 0.9, "b": 0.1, "c": 0.8})
    assert result["rank_correlation"] == pytest.approx(-1)
    assert result["n"] == 3
    assert result["cases"][1] == {"case": "b", "uncertainty": 0.4, "dice": 0.1}
    assert disagreement.worth({"cases": {}}, {})["rank_correlation"] is None


@pytest.mark.parametrize("damaged", [b"{}", b"[]", b"{", None])
def test_a_damaged_comparison_is_named_and_computed_anew(store, study, damaged) -> None:
    key = result_keys.disagreement_key(study.id)
    before = disagreement.load(store, study.id)
    if damaged is None:
        record.write(store, key, before | {"weights": ["a", "b"]})
    else:
        store.put(key, damaged)
    with pytest.raises(IntegrityError, match=f"'{key}' is damaged"):
        disagreement.load(store, study.id)
    assert disagreement.run(store, study) == before

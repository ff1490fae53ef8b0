import json
from dataclasses import replace

import numpy as np
import pytest

from liverseg.core.data.case import encode
from liverseg.core.evaluation.overlap import dice
from liverseg.core.volumes.volume import Geometry, Volume
from liverseg.errors import IntegrityError, StudyError
from liverseg.imaging.files import nifti_bytes
from liverseg.race.records import facts
from liverseg.reporting import evaluation
from liverseg.steps.data.cases import (
    CASE_FILE,
    SEGMENTATION_FILE,
    case_prefix,
    load_case,
    load_probability,
    segmentation_prefix,
)
from liverseg.steps.results import evaluate, postprocess, result_keys, threshold_baseline
from liverseg.storage import bundle, record
from liverseg.storage.memory import MemoryStore
from tests.core import plain_threshold
from tests.steps.test_evaluate_external import valid
from tests.steps.tiny_study import finished_study, study_in


@pytest.fixture(scope="module")
def finished():
    return finished_study()


@pytest.fixture
def store(finished):
    """The finished study's store, one for each test."""
    copy = MemoryStore()
    copy.objects.update(finished[0].objects)
    return copy


@pytest.fixture
def study(finished):
    return finished[1]


def test_every_arm_and_the_threshold_are_compared_with_the_rater(store, study) -> None:
    evaluation = evaluate.run(store, study)
    assert json.loads(json.dumps(evaluation)) == evaluation
    assert set(evaluation["arms"]) == {"multi", "baseline", "threshold"}
    assert evaluation["synthetic"] is True
    (test,) = study.dataset.role("test")
    case = load_case(store, test.key)
    for arm, sha256 in facts.ended_arms(store, study.id).items():
        assert evaluation["arms"][arm]["weights_sha256"] == sha256
        probability = load_probability(store, sha256, test.key)
        expected = dice(postprocess.segment(probability, case), case.original_raters["R1"])
        values = evaluation["arms"][arm]["cases"]["test"]
        assert values["dice"] == {"R1": expected}
        assert evaluation["arms"][arm]["mean_dice"] == expected
        detection = values["detection"]["R1"]
        assert detection["tp"] + detection["fn"] == 1  # the rater drew one lesion


def test_all_measures_lie_inside_as_the_schema_says(store, study) -> None:
    evaluation = evaluate.run(store, study)
    document = valid(evaluation["document"])
    assert document["algorithms"] == ["A1", "A2", "threshold"]
    dice_by_rater = evaluation["arms"]["baseline"]["cases"]["test"]["dice"]
    assert document["cases"][0]["algorithms"]["A2"]["dice"] == {
        **dice_by_rater, "mean": dice_by_rater["R1"]
    }  # fmt: skip
    assert document["cases"][0]["spacing_mm"] == list(
        load_case(store, study.dataset.role("test")[0].key).original_geometry.spacing_mm
    )


def test_the_threshold_is_fitted_on_the_training_cases_alone(store, study) -> None:
    evaluation = evaluate.run(store, study)
    cases = [load_case(store, c.key) for c in study.dataset.role("training")]
    best = plain_threshold.fit([(c.image, c.liver, c.raters["R1"]) for c in cases])
    assert evaluation["threshold"] == {
        "value": best.value, "sign": best.sign, "training_dice": best.training_dice
    }  # fmt: skip
    assert evaluation["arms"]["threshold"]["mean_dice"] > 0.8  # the lesion is plainly darker


def threshold_in(store, study) -> str:
    return threshold_baseline.threshold_key(study.dataset.digest, "R1")


def test_another_study_of_the_data_set_reads_the_threshold_and_fits_none(
    store, study, monkeypatch
) -> None:
    first = evaluate.run(store, study)
    store.delete(result_keys.evaluation_key(study.id))
    reads = []
    load = threshold_baseline.load_labelled
    monkeypatch.setattr(threshold_baseline, "load_labelled", lambda *a: reads.append(a) or load(*a))
    assert evaluate.run(store, study)["threshold"] == first["threshold"]
    assert reads == []
    # It is the one in the store that is read, not a copy in this process.
    record.write(store, threshold_in(store, study), first["threshold"] | {"value": 0.125})
    store.delete(result_keys.evaluation_key(study.id))
    assert evaluate.run(store, study)["threshold"]["value"] == 0.125
    other_cases = replace(study.dataset, cases=study.dataset.cases[:1])
    assert threshold_baseline.of_dataset(store, other_cases, "R1").value != 0.125
    assert len(reads) == 3


@pytest.mark.parametrize("damaged", [b"", b"{", b'{"value": null, "sign": -1}'])
def test_a_damaged_threshold_is_fitted_anew(store, study, damaged) -> None:
    first = evaluate.run(store, study)
    store.put(threshold_in(store, study), damaged)
    store.delete(result_keys.evaluation_key(study.id))
    assert evaluate.run(store, study)["threshold"] == first["threshold"]
    assert record.read(store, threshold_in(store, study)) == first["threshold"]


def test_a_case_counts_once_however_many_raters_it_has(store, study) -> None:
    """The mean is over cases of the mean over raters; an absent rater is no zero."""
    (test,) = study.dataset.role("test")
    case = load_case(store, test.key)
    whole = case.original_raters["R1"]
    half = whole.copy()
    half[:, :, : whole.shape[2] // 2 - 2] = False
    case.original_raters["R3"] = half
    entry = evaluate._entry(test.name, {"multi": whole}, case)
    values = evaluate._compared(entry["algorithms"]["A1"])
    assert set(values["dice"]) == {"R1", "R3"}
    assert values["dice"]["R1"] == 1
    assert 0 < values["dice"]["R3"] == dice(whole, half) < 1
    assert values["jaccard"]["R3"] == pytest.approx(half.sum() / whole.sum())


def test_the_same_weights_are_evaluated_once_and_other_weights_are_counted(store, study) -> None:
    first = evaluate.run(store, study)
    assert first["test_evaluations"] == 1
    writes = []
    store.before_write = lambda _number, key: writes.append(key)
    assert evaluate.run(store, study) == first
    assert writes == []
    store.before_write = lambda _number, _key: None
    # The baseline is removed, as if it had ended only now.
    baseline = store.objects.pop(facts.result_key(study.id, "baseline"))
    without = evaluate.run(store, study)
    assert (set(without["arms"]), without["test_evaluations"]) == ({"multi", "threshold"}, 2)
    store.objects[facts.result_key(study.id, "baseline")] = baseline
    again = evaluate.run(store, study)
    assert again["test_evaluations"] == 3
    assert again["arms"] == first["arms"]


def test_other_measures_are_evaluated_again_without_a_new_prediction(
    store, study, monkeypatch
) -> None:
    first = evaluate.run(store, study)
    writes = []
    store.before_write = lambda _number, key: writes.append(key)
    monkeypatch.setattr(evaluate, "EVALUATION_VERSION", first["evaluation_version"] + 1)
    again = evaluate.run(store, study)
    assert writes == [result_keys.evaluation_key(study.id)]
    assert again["evaluation_version"] == first["evaluation_version"] + 1
    assert again["document"] == first["document"]


def test_a_case_that_is_not_segmented_says_which_command_is_missing(store, study) -> None:
    sha256 = facts.ended_arms(store, study.id)["multi"]
    prefix = segmentation_prefix(sha256, study.dataset.role("test")[0].key)
    for key in list(store.objects):
        if key.startswith(prefix):
            del store.objects[key]
    with pytest.raises(StudyError, match="run `liverseg postprocess` first"):
        evaluate.run(store, study)
    assert result_keys.evaluation_key(study.id) not in store.objects


def test_the_segmentation_is_read_back_voxel_by_voxel(store, study) -> None:
    (test,) = study.dataset.role("test")
    sha256 = facts.ended_arms(store, study.id)["multi"]
    case = load_case(store, test.key)
    expected = postprocess.segment(load_probability(store, sha256, test.key), case)
    assert np.array_equal(evaluate.load_segmentation(store, sha256, test.key, "auto"), expected)


def test_a_segmentation_of_coronal_slices_is_read_as_its_study_s_slices_lie() -> None:
    mask = np.random.default_rng(0).random((4, 5, 6)) > 0.5
    geometry = Geometry(
        mask.shape, (7.0, 1.0, 2.0), (3.0, -4.0, 5.0), (1, 0, 0, 0, 0, 1, 0, -1, 0), (-1, -2, 3)
    )
    store = MemoryStore()
    data = nifti_bytes(Volume(mask, geometry))
    bundle.commit(store, segmentation_prefix("f" * 64, "key"), {SEGMENTATION_FILE: data})
    assert np.array_equal(evaluate.load_segmentation(store, "f" * 64, "key", "y"), mask)
    assert evaluate.load_segmentation(store, "f" * 64, "key", "auto").shape == (5, 4, 6)


def test_what_raters_have_drawn_outside_the_liver_is_counted_with_its_cost(store, study) -> None:
    (test,) = study.dataset.role("test")
    case = load_case(store, test.key)
    lesion = case.original_raters["R1"].copy()
    inside = int(lesion.sum())
    lesion[0, 0, :30] = True
    raters = {"R1": lesion, "R2": np.zeros_like(lesion), "R3": case.original_raters["R1"]}
    bundle.commit(
        store,
        case_prefix(test.key),
        {CASE_FILE: encode(replace(case, original_raters=raters))},
    )
    (entry,) = valid(evaluate.run(store, study)["document"])["cases"]
    assert entry["outside_liver_voxels"] == {
        "R1": 30, "R2": 0, "R3": 0, "A1": 0, "A2": 0, "threshold": 0
    }  # fmt: skip
    cost = 1 - 2 * inside / (2 * inside + 30)
    assert entry["outside_liver_dice_loss"] == {"R1": pytest.approx(cost), "R2": 0, "R3": 0}
    # A prediction of all that lies inside reaches the rest.
    assert dice(lesion & case.original_liver, lesion) == pytest.approx(1 - cost)
    assert entry["algorithms"]["A1"]["dice"]["R1"] <= 1 - cost
    notes = evaluation.notes(evaluate.load_evaluation(store, study.id)["document"])
    assert (
        f"test: R1 has 30 lesion voxels outside the liver, which costs a prediction at most "
        f"{cost:.3f} of its Dice." in notes
    )
    assert not any("R2 has" in note or "R3 has" in note for note in notes)


def test_a_study_that_was_never_evaluated_says_so() -> None:
    store = MemoryStore()
    study = study_in(store)
    with pytest.raises(StudyError, match="run `liverseg evaluate` first"):
        evaluate.load_evaluation(store, study.id)


def test_a_damaged_segmentation_is_refused(store, study) -> None:
    (test,) = study.dataset.role("test")
    prefix = segmentation_prefix(facts.ended_arms(store, study.id)["multi"], test.key)
    key = prefix + "segmentation.nii.gz"
    store.objects[key] = store.objects[key][:-1] + b"x"
    with pytest.raises(IntegrityError, match=r"SHA-256 is .*promises"):
        evaluate.run(store, study)
    assert result_keys.evaluation_key(study.id) not in store.objects


@pytest.mark.parametrize("lost", ["weights", "arms", "test_evaluations"])
def test_a_damaged_evaluation_is_refused_since_nobody_knows_its_count(store, study, lost) -> None:
    evaluate.run(store, study)
    key = result_keys.evaluation_key(study.id)
    values = record.read(store, key)
    record.write(store, key, values | {lost: "damaged"})
    with pytest.raises(IntegrityError, match=f"'{key}' is damaged: field '{lost}'"):
        evaluate.run(store, study)
    del values[lost]
    record.write(store, key, values)
    with pytest.raises(IntegrityError, match=f"'{key}' is damaged: .*{lost}"):
        evaluate.load_evaluation(store, study.id)

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from liverseg.core.volumes.volume import Volume
from liverseg.errors import CaseError, StudyError
from liverseg.race.records.study import Study
from liverseg.settings import Settings
from liverseg.steps.data import preparation, scan
from liverseg.steps.data.cases import load_case, prediction_prefix, segmentation_prefix
from liverseg.steps.results import postprocess
from liverseg.storage import bundle
from liverseg.storage.memory import MemoryStore

WEIGHTS = "ab" * 32
SETTINGS = Settings()


@pytest.fixture
def case(tiny_case):
    raters = {"R1": tiny_case["tumor_R1"]}
    return preparation.prepare(tiny_case["image"], tiny_case["liver"], raters, SETTINGS)


def probability_of(case):
    return case.raters["R1"].astype(np.float32) * np.float32(0.9)


def test_a_perfect_probability_comes_back_as_the_lesion(case):
    mask = postprocess.segment(probability_of(case), case)
    truth = case.original_raters["R1"]
    assert mask.shape == truth.shape
    assert mask.dtype == bool
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.9


def test_nothing_lies_outside_the_original_liver(case):
    mask = postprocess.segment(np.ones_like(case.image), case)
    assert mask.any()
    assert not (mask & ~case.original_liver).any()


def test_the_way_back_interpolates_probabilities_and_cuts_once(tiny_case):
    """Voxels of 2 mm on a grid of 1 mm: every original centre is a centre of the network's."""
    geometry = replace(tiny_case["image"].geometry, spacing_mm=(4.0, 2.0, 2.0))
    image, liver = (Volume(tiny_case[n].voxels, geometry) for n in ("image", "liver"))
    case = preparation.prepare(image, liver, {}, SETTINGS)
    rng = np.random.default_rng(0)
    wide = rng.random((6, 24, 20)) > 0.3
    probability = np.zeros(case.image.shape, np.float32)
    probability[:, ::2, ::2] = np.where(wide, 0.6, 0.4)
    # A lesion of single voxels lies in the middle, where no opening is done.
    inner = np.zeros_like(wide)
    inner[1:5, 8:15, 6:13] = True
    mask = postprocess.segment(probability, case)
    assert np.array_equal(mask & inner, wide & inner & case.original_liver)


def test_a_probability_of_another_grid_is_refused_with_both_shapes(case):
    with pytest.raises(CaseError, match=r"\(2, 3, 4\) voxels \(z, y, x\), the prepared case \(6,"):
        postprocess.segment(np.zeros((2, 3, 4), np.float32), case)


@pytest.fixture
def data(tmp_path, write_case, tiny_case):
    for seed, name in enumerate("abc"):
        write_case(tmp_path / "data" / name, seed=seed)
    # The test case is stored as "RAI" and tilted by 23 degrees.
    tilted = (1.0, 0.0, 0.0, 0.0, 0.9205, -0.3907, 0.0, 0.3907, 0.9205)
    geometry = replace(tiny_case["image"].geometry, file_axes=(-1, -2, -3), direction=tilted)
    moved = {name: Volume(v.voxels, geometry) for name, v in tiny_case.items()}
    write_case(tmp_path / "data" / "d", replace=moved)
    (tmp_path / "split.json").write_text(json.dumps({"test": ["d"], "validation": ["c"]}))
    return tmp_path / "data"


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def study(data, store):
    split = data.parent / "split.json"
    dataset = scan.run(data, store, SETTINGS, split, keep_prepared=True).dataset
    return Study("0123456789ab", SETTINGS, dataset, "0a1b2c3d")


def predict(store, study):
    for record in study.dataset.role("test"):
        predict_case(store, record)
    return record


def predict_case(store, record):
    target = io.BytesIO()
    np.save(target, probability_of(load_case(store, record.key)), allow_pickle=False)
    prefix = prediction_prefix(WEIGHTS, record.key)
    bundle.commit(store, prefix, {"probability.npy": target.getvalue()})


def test_segmentations_lie_on_the_image_as_it_came(data, store, study, tmp_path):
    record = predict(store, study)
    assert postprocess.run(store, study, WEIGHTS).done == ["d"]
    prefix = segmentation_prefix(WEIGHTS, record.key)
    (tmp_path / "seg.nii.gz").write_bytes(bundle.load(store, prefix)["segmentation.nii.gz"])
    segmentation = sitk.ReadImage(str(tmp_path / "seg.nii.gz"))
    image = sitk.ReadImage(str(data / "d" / "image.nii.gz"))
    lesion = sitk.ReadImage(str(data / "d" / "tumor_R1.nii.gz"))
    assert segmentation.GetSize() == image.GetSize()
    assert segmentation.GetDirection() == pytest.approx(image.GetDirection(), abs=1e-5)
    assert segmentation.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-3)
    predicted, truth = (sitk.GetArrayFromImage(i) > 0 for i in (segmentation, lesion))
    assert 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()) > 0.9


def test_a_second_run_reuses_the_segmentations(store, study):
    predict(store, study)
    postprocess.run(store, study, WEIGHTS)
    objects = dict(store.objects)
    result = postprocess.run(store, study, WEIGHTS)
    assert (result.done, result.reused) == ([], ["d"])
    assert store.objects == objects


@pytest.mark.parametrize("error", [RuntimeError("ITK says no"), MemoryError("ITK says no")])
def test_what_a_library_raises_at_a_case_costs_no_other_case(store, study, monkeypatch, error):
    cases = tuple(replace(record, role="test") for record in study.dataset.cases)
    study = replace(study, dataset=replace(study.dataset, cases=cases))
    predict(store, study)
    execute, left = sitk.ResampleImageFilter.Execute, [error]

    def fail_once(*arguments):
        if left:
            raise left.pop()
        return execute(*arguments)

    monkeypatch.setattr(sitk.ResampleImageFilter, "Execute", fail_once)
    with pytest.raises(CaseError, match=r"1 case cannot be segmented: a: .*ITK says no$"):
        postprocess.run(store, study, WEIGHTS)
    result = postprocess.run(store, study, WEIGHTS)
    assert (result.done, result.reused) == (["a"], ["b", "c", "d"])


def test_a_case_without_prediction_says_which_command_is_missing(store, study):
    with pytest.raises(StudyError, match="run `liverseg predict` first"):
        postprocess.run(store, study, WEIGHTS)

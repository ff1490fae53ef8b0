import json
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from liverseg.core.data.case import encode
from liverseg.errors import CaseError, IntegrityError, SettingsError, StudyError
from liverseg.settings import Settings
from liverseg.steps.data import preparation, preprocess, scan
from liverseg.steps.data.cases import case_prefix, load_case, load_dataset
from liverseg.storage import bundle
from liverseg.storage.memory import MemoryStore
from tests.file_opens import counted_opens

SETTINGS = Settings()
NAMES = ["a", "b", "c", "d", "e"]


class CrashError(Exception):
    pass


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def data(tmp_path, write_case):
    for seed, name in enumerate(NAMES):
        write_case(tmp_path / "data" / name, seed=seed)
    (tmp_path / "split.json").write_text(json.dumps({"test": ["d"], "validation": ["c"]}))
    return tmp_path / "data"


@pytest.fixture
def dataset(data, store):
    return scan.run(data, store, SETTINGS, data.parent / "split.json").dataset


def test_a_second_run_prepares_nothing_and_says_so(data, store, dataset):
    first = preprocess.run(data, store, dataset, SETTINGS)
    assert (first.done, first.reused) == (NAMES, [])
    objects = dict(store.objects)
    second = preprocess.run(data, store, dataset, SETTINGS)
    assert (second.done, second.reused) == ([], NAMES)
    assert store.objects == objects


def test_one_added_case_prepares_one_case(data, store, dataset, write_case):
    preprocess.run(data, store, dataset, SETTINGS)
    write_case(data / "new", seed=50)
    larger = scan.run(data, store, SETTINGS, data.parent / "split.json").dataset
    result = preprocess.run(data, store, larger, SETTINGS)
    assert result.done == ["new"]
    assert len(result.reused) == 5


def test_shards_share_out_all_cases(data, store, dataset):
    shards = [preprocess.run(data, store, dataset, SETTINGS, k, 3).done for k in range(3)]
    assert shards == [["a", "d"], ["b", "e"], ["c"]]


@pytest.mark.parametrize(("shard", "shards"), [(3, 3), (-1, 2), (0, 0)])
def test_a_shard_that_does_not_exist_is_refused(data, store, dataset, shard, shards):
    with pytest.raises(SettingsError, match=r"shard \("):
        preprocess.run(data, store, dataset, SETTINGS, shard, shards)


def test_a_prepared_case_is_on_the_network_grid_and_remembers_its_own(data, store, dataset):
    preprocess.run(data, store, dataset, SETTINGS)
    record = dataset.cases[0]
    case = load_case(store, record.key)
    assert case.spacing_mm == pytest.approx((4.0, 1.0, 1.0))
    assert case.image.shape == case.liver.shape == case.loss_mask.shape == (6, 30, 30)
    assert np.percentile(case.image[case.liver], [2, 98]) == pytest.approx([0, 1], abs=1e-6)
    assert sorted(case.raters) == sorted(case.original_raters) == ["R1", "R2"]
    assert case.original_liver.shape == case.original_geometry.shape == (6, 24, 20)
    assert case.original_geometry.spacing_mm == pytest.approx((4.0, 1.25, 1.5))
    assert (case.loss_mask & case.liver).sum() == case.liver.sum()
    assert case.loss_mask.sum() > case.liver.sum()


def test_preparing_twice_gives_the_same_bytes(tiny_case):
    def prepared():
        raters = {"R1": tiny_case["tumor_R1"]}
        return encode(preparation.prepare(tiny_case["image"], tiny_case["liver"], raters, SETTINGS))

    assert prepared() == prepared()


def test_an_empty_liver_is_refused(tiny_case):
    liver = replace(tiny_case["liver"], voxels=np.zeros((6, 24, 20), bool))
    with pytest.raises(CaseError, match="liver mask is empty"):
        preparation.prepare(tiny_case["image"], liver, {}, SETTINGS)


def test_a_file_that_changed_since_the_scan_is_named_with_both_hashes(data, store, dataset):
    image = (data / "a" / "image.nii.gz").read_bytes()
    (data / "b" / "image.nii.gz").write_bytes(image)
    now, scanned = sha256(image).hexdigest(), dataset.cases[1].sha256["image"]
    with pytest.raises(
        CaseError, match=f"'b': '.*b/image.nii.gz' has changed .* is {now}, the scan saw {scanned}"
    ):
        preprocess.run(data, store, dataset, SETTINGS)
    assert load_case(store, dataset.cases[0].key)
    assert not bundle.exists(store, case_prefix(dataset.cases[1].key))


def test_a_shard_opens_each_file_of_its_own_cases_once(data, store, dataset):
    with counted_opens(data) as opens:
        preprocess.run(data, store, dataset, SETTINGS, 0, 3)
    assert opens == {path: 1 for c in dataset.cases for path in c.files.values() if c.name in "ad"}
    with counted_opens(data) as opens:
        preprocess.run(data, store, dataset, SETTINGS, 0, 3)
    assert opens == {}


def test_a_file_that_is_gone_since_the_scan_is_named(data, store, dataset):
    (data / "b" / "image.nii.gz").unlink()
    with pytest.raises(CaseError, match=r"'b': '.*image.nii.gz' is gone since the scan"):
        preprocess.run(data, store, dataset, SETTINGS)


def test_other_preparation_settings_than_the_scan_had_are_refused(data, store, dataset):
    other = replace(SETTINGS, preparation=replace(SETTINGS.preparation, in_plane_mm=2.0))
    with pytest.raises(SettingsError, match=r"'preparation.in_plane_mm' is 2.0, .* with 1.0"):
        preprocess.run(data, store, dataset, other)


def test_a_case_that_another_version_has_scanned_is_refused(data, store, dataset):
    first = replace(dataset.cases[0], key="0" * 64)
    with pytest.raises(CaseError, match=f"'a': its key is .*, the scan's {'0' * 64}: another vers"):
        preprocess.run(data, store, replace(dataset, cases=(first,)), SETTINGS)


@pytest.mark.parametrize("writes", range(2))
def test_a_crash_at_any_write_leaves_nothing_that_counts(data, dataset, writes):
    def crash(number, _key):
        if number == writes:
            raise CrashError

    store = MemoryStore(before_write=crash)
    with pytest.raises(CrashError):
        preprocess.run(data, store, dataset, SETTINGS)
    with pytest.raises(StudyError, match="is not prepared"):
        load_case(store, dataset.cases[0].key)
    store.before_write = None
    assert preprocess.run(data, store, dataset, SETTINGS).done == NAMES


def test_a_damaged_prepared_case_is_noticed(data, store, dataset):
    preprocess.run(data, store, dataset, SETTINGS)
    key = case_prefix(dataset.cases[0].key) + "case.npz"
    store.objects[key] = store.objects[key][:-1] + b"!"
    with pytest.raises(IntegrityError, match=r"case.npz"):
        load_case(store, dataset.cases[0].key)


def test_an_unknown_data_set_says_which_command_is_missing(store):
    with pytest.raises(StudyError, match="run `liverseg scan` first"):
        load_dataset(store, "0" * 64)


def test_progress_names_every_case(data, store, dataset):
    seen = []
    preprocess.run(data, store, dataset, SETTINGS, progress=lambda *step: seen.append(step))
    assert seen == [(f"prepare {n}", i, 5) for i, n in enumerate(NAMES)] + [("prepare", 5, 5)]

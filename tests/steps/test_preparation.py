import json
from dataclasses import replace

import numpy as np
import pytest

from liverseg.core.data.case import encode
from liverseg.errors import CaseError, IntegrityError, StudyError
from liverseg.settings import Settings
from liverseg.steps.data import preparation, scan
from liverseg.steps.data.cases import case_prefix, load_case, load_dataset
from liverseg.storage.memory import MemoryStore
from tests.conftest import SPACING_MM

SETTINGS = Settings()
NAMES = ["a", "b", "c", "d", "e"]


class CrashError(BaseException):
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


def prepared(data, store):
    """Scan and prepare; return the data set, and the names of the cases prepared now."""
    split = data.parent / "split.json"
    result = scan.run(data, store, SETTINGS, split, keep_prepared=True)
    assert result.findings == []
    return result.dataset, [case.name for case in result.cases if not case.prepared]


def test_a_second_run_prepares_nothing_and_says_so(data, store):
    assert prepared(data, store)[1] == NAMES
    objects = dict(store.objects)
    assert prepared(data, store)[1] == []
    assert store.objects == objects


def test_one_added_case_prepares_one_case(data, store, write_case):
    prepared(data, store)
    write_case(data / "new", seed=50)
    dataset, names = prepared(data, store)
    assert names == ["new"]
    assert len(dataset.cases) == 6


def test_a_prepared_case_is_on_the_network_grid_and_remembers_its_own(data, store):
    dataset, _ = prepared(data, store)
    case = load_case(store, dataset.cases[0].key)
    assert case.spacing_mm == pytest.approx((SPACING_MM[0], 1.0, 1.0))
    assert case.image.shape == case.liver.shape == case.loss_mask.shape == (6, 30, 30)
    assert np.percentile(case.image[case.liver], [2, 98]) == pytest.approx([0, 1], abs=1e-6)
    assert sorted(case.raters) == sorted(case.original_raters) == ["R1", "R2"]
    assert case.original_liver.shape == case.original_geometry.shape == (6, 24, 20)
    assert case.original_geometry.spacing_mm == pytest.approx(SPACING_MM)
    assert (case.loss_mask & case.liver).sum() == case.liver.sum()
    assert case.loss_mask.sum() > case.liver.sum()


def test_preparing_twice_gives_the_same_bytes(tiny_case):
    def once():
        raters = {"R1": tiny_case["tumor_R1"]}
        return encode(preparation.prepare(tiny_case["image"], tiny_case["liver"], raters, SETTINGS))

    assert once() == once()


def test_an_empty_liver_is_refused(tiny_case):
    liver = replace(tiny_case["liver"], voxels=np.zeros((6, 24, 20), bool))
    with pytest.raises(CaseError, match="liver mask is empty"):
        preparation.prepare(tiny_case["image"], liver, {}, SETTINGS)


@pytest.mark.parametrize("writes", range(2))
def test_a_crash_at_any_write_leaves_nothing_that_counts(data, writes):
    def crash(number, _key):
        if number == writes:
            raise CrashError

    store = MemoryStore(before_write=crash)
    with pytest.raises(CrashError):
        prepared(data, store)
    key = prepared(data, MemoryStore())[0].cases[0].key
    with pytest.raises(StudyError, match="is not prepared"):
        load_case(store, key)
    store.before_write = None
    assert prepared(data, store)[1] == NAMES


def test_a_damaged_prepared_case_is_noticed(data, store):
    dataset, _ = prepared(data, store)
    key = case_prefix(dataset.cases[0].key) + "case.npz"
    store.objects[key] = store.objects[key][:-1] + b"!"
    with pytest.raises(IntegrityError, match=r"case.npz"):
        load_case(store, dataset.cases[0].key)


def test_an_unknown_data_set_says_which_command_is_missing(store):
    with pytest.raises(StudyError, match="run `liverseg scan` first"):
        load_dataset(store, "0" * 64)

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from liverseg.core.volumes.volume import Volume
from liverseg.errors import SettingsError
from liverseg.settings import (
    PREPARATION_VERSION,
    Settings,
    digest,
    from_mapping,
)
from liverseg.steps.data import scan, scan_shards
from liverseg.steps.data.case_files import case_key
from liverseg.steps.data.cases import case_prefix, load_dataset, require_prepared
from liverseg.storage.memory import MemoryStore
from tests.conftest import SPACING_MM
from tests.file_opens import counted_opens

SETTINGS = Settings()
EXCLUDE = from_mapping({"data": {"refused_cases": "exclude"}})


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def data(tmp_path, write_case):
    """Four good cases: two train, one validates, one tests."""
    for seed, name in enumerate("abcd"):
        write_case(tmp_path / "data" / name, seed=seed)
    return tmp_path / "data"


@pytest.fixture
def split(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"test": ["d"], "validation": ["c"]}))
    return path


def problems(result, case):
    return [f"{f.file}: {f.problem}" for f in result.findings if f.case == case]


def test_good_data_becomes_a_data_set_in_the_store(data, store, split):
    result = scan.run(data, store, SETTINGS, split)
    assert result.findings == []
    roles = {case.name: case.role for case in result.dataset.cases}
    assert roles == {"a": "training", "b": "training", "c": "validation", "d": "test"}
    assert load_dataset(store, result.dataset.digest) == result.dataset
    case = result.dataset.cases[0]
    assert case.raters == ("R1", "R2")
    assert case.files["R1"] == "a/tumor_R1.nii.gz"
    assert case.shape == (6, 24, 20)
    assert case.spacing_mm == pytest.approx(SPACING_MM)


def test_names_with_spaces_and_umlauts_work(tmp_path, store, write_case):
    data = tmp_path / "Fälle und Bilder"
    for seed, name in enumerate(["Fall 1", "größer, später", "Ünï côdé"]):
        write_case(data / name, seed=seed)
    split = tmp_path / "Aufteilung für später.json"
    split.write_text(
        json.dumps({"test": ["größer, später"], "validation": ["Fall 1"]}), encoding="utf-8"
    )
    result = scan.run(data, store, SETTINGS, split)
    assert result.findings == []
    names = sorted(["Fall 1", "größer, später", "Ünï côdé"])
    assert [case.name for case in result.dataset.cases] == names


def test_everything_wrong_is_listed_not_only_the_first(data, store, split, write_case, tiny_case):
    image, liver = tiny_case["image"], tiny_case["liver"]
    holes = image.voxels.copy()
    holes[0, 0, :3] = np.nan
    moved = replace(liver.geometry, origin_mm=(0.0, 0.0, 0.0))
    bad = {
        "empty liver": {"liver": replace(liver, voxels=np.zeros_like(liver.voxels))},
        "constant": {"image": replace(image, voxels=np.full_like(image.voxels, 3))},
        "moved": {"liver": Volume(liver.voxels, moved)},
        "no R1": {"tumor_R1": None},
        "no image": {"image": None},
        "nan": {"image": replace(image, voxels=holes), "tumor_R1": None},
    }
    for seed, (name, replaced) in enumerate(bad.items(), start=10):
        write_case(data / name, seed=seed, replace=replaced)
    result = scan.run(data, store, SETTINGS, split)
    assert problems(result, "empty liver") == ["liver.nii.gz: the liver mask is empty"]
    assert "constant inside the liver" in problems(result, "constant")[0]
    assert problems(result, "moved") == [
        "liver.nii.gz: 'liver.nii.gz' has origin (x, y, z) mm (0.0, 0.0, 0.0), "
        "the image has (-10.0, 5.0, 30.0)"
    ]
    assert "no 'tumor_R1' file, which a training case needs" in problems(result, "no R1")[0]
    assert problems(result, "no image") == ["image: there is no 'image' file"]
    assert [p.split(":")[0] for p in problems(result, "nan")] == ["image.nii.gz", "tumor_R1"]
    assert {f.case for f in result.findings} == set(bad)
    assert result.dataset is None
    assert store.keys("") == []


def test_a_two_dimensional_and_a_truncated_image_are_refused(data, store, split):
    flat = sitk.GetImageFromArray(np.zeros((24, 20), np.int16))
    sitk.WriteImage(flat, str(data / "a" / "image.nii.gz"))
    path = data / "b" / "image.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    result = scan.run(data, store, SETTINGS, split)
    assert "'image.nii.gz' is not a volume" in problems(result, "a")[0]
    assert "'image.nii.gz' is truncated" in problems(result, "b")[0]
    assert result.dataset is None


def test_refused_cases_can_be_excluded(data, store, split):
    (data / "a" / "liver.nii.gz").unlink()
    result = scan.run(data, store, EXCLUDE, split)
    assert result.excluded == ["a"]
    assert [case.name for case in result.dataset.cases] == ["b", "c", "d"]
    assert problems(result, "a") == ["liver: there is no 'liver' file"]
    assert result.dataset.excluded == (("a", "there is no 'liver' file"),)
    assert load_dataset(store, result.dataset.digest) == result.dataset
    # Who was left out changes no result.
    assert replace(result.dataset, excluded=()).digest == result.dataset.digest


def test_excluding_the_only_validation_case_is_an_error_that_says_what_to_do(data, store, split):
    (data / "c" / "liver.nii.gz").unlink()
    result = scan.run(data, store, EXCLUDE, split)
    assert result.dataset is None
    assert problems(result, "") == [
        ": no usable validation case among 3: change 'split.json' so that one is left for it"
    ]


def test_a_rule_that_leaves_a_side_empty_says_what_to_do(data, store):
    settings = from_mapping({"data": {"validation_fraction": 0.0, "test_fraction": 0.0}})
    result = scan.run(data, store, settings)
    assert [f.problem.split(":")[0] for f in result.findings] == [
        "no usable validation case among 4",
        "no usable test case among 4",
    ]
    assert "--split" in result.findings[0].problem


def test_a_test_case_without_any_rater_is_refused(data, store, split):
    for name in ("tumor_R1", "tumor_R2"):
        (data / "d" / f"{name}.nii.gz").unlink()
    result = scan.run(data, store, SETTINGS, split)
    assert "at least one rater" in problems(result, "d")[0]


def test_a_test_case_without_r1_and_a_missing_r2_count_as_absent_raters(data, store, split):
    (data / "d" / "tumor_R1.nii.gz").unlink()
    (data / "a" / "tumor_R2.nii.gz").unlink()
    result = scan.run(data, store, SETTINGS, split)
    assert [case.raters for case in result.dataset.cases] == [
        ("R1",),
        ("R1", "R2"),
        ("R1", "R2"),
        ("R2",),
    ]


def test_another_training_rater_is_asked_for_by_name(data, store, split):
    settings = from_mapping({"data": {"training_rater": "R3"}})
    result = scan.run(data, store, settings, split)
    assert [(f.case, f.file) for f in result.findings if f.case] == [
        ("a", "tumor_R3"),
        ("b", "tumor_R3"),
        ("c", "tumor_R3"),
    ]


def test_a_case_without_lesion_is_fine(data, store, split, write_case, tiny_case):
    none = replace(tiny_case["tumor_R1"], voxels=np.zeros((6, 24, 20), bool))
    write_case(data / "healthy", seed=9, replace={"tumor_R1": none, "tumor_R2": None})
    result = scan.run(data, store, SETTINGS, split)
    assert result.findings == []
    assert next(c for c in result.cases if c.name == "healthy").lesion_ml == {"R1": 0.0}


def test_all_formats_may_be_mixed(tmp_path, store, split, write_case):
    formats = {"a": ".nii", "b": ".nrrd", "c": ".mha", "d": ".nii.gz"}
    for seed, (name, suffix) in enumerate(formats.items()):
        write_case(tmp_path / "data" / name, seed=seed, suffix=suffix)
    assert scan.run(tmp_path / "data", store, SETTINGS, split).findings == []


def test_patient_and_synthetic_come_from_case_json(data, store, split):
    (data / "a" / "case.json").write_text('{"patient": "Maier-7", "synthetic": true}')
    result = scan.run(data, store, SETTINGS, split)
    assert (result.dataset.cases[0].patient, result.dataset.cases[0].synthetic) == ("Maier-7", True)
    assert (result.dataset.cases[1].patient, result.dataset.cases[1].synthetic) == ("b", False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "must be a table"),
        ('{"patient": 7}', "'patient' must be a pseudonym in quotes, not 7"),
        ('{"patient": "P\\ud800"}', r"'patient' must be a pseudonym in quotes, not 'P\ud800'"),
        ('{"synthetic": "yes"}', "'synthetic' must be true or false"),
    ],
)
def test_a_wrong_case_json_is_refused(data, store, split, text, message):
    (data / "a" / "case.json").write_text(text)
    assert message in problems(scan.run(data, store, SETTINGS, split), "a")[0]


def test_files_that_cannot_be_distinguished_or_understood_are_refused(data, store, split):
    for name, copy in (("image.nii.gz", "image.nii"), ("tumor_R1.nii.gz", "tumor_r3.nii.gz")):
        (data / "a" / copy).write_bytes((data / "a" / name).read_bytes())
    of_a = problems(scan.run(data, store, SETTINGS, split), "a")
    assert any("'tumor_r3.nii.gz' is not understood" in p for p in of_a)
    assert any("there are several: 'image.nii', 'image.nii.gz'" in p for p in of_a)


def test_a_wrong_split_is_listed_beside_what_is_wrong_with_the_cases(data, store, tmp_path):
    (data / "a" / "liver.nii.gz").unlink()
    path = tmp_path / "split.json"
    path.write_text('{"test": ["nobody"], "validation": ["c"]}')
    result = scan.run(data, store, SETTINGS, path)
    assert "'nobody'" in problems(result, "")[0]
    assert problems(result, "a") == ["liver: there is no 'liver' file"]


@pytest.mark.parametrize("text", ["{", "[]", '{"test": "d"}', '{"test": [4]}'])
def test_a_split_file_of_another_form_is_refused_at_once(data, store, tmp_path, text):
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"split file '.*split.json'"):
        scan.run(data, store, SETTINGS, path)


def test_a_copy_of_an_image_on_another_side_is_refused(data, store, split):
    for name in ("image", "liver"):
        (data / "d" / f"{name}.nii.gz").write_bytes((data / "a" / f"{name}.nii.gz").read_bytes())
    result = scan.run(data, store, SETTINGS, split)
    assert "copy of 'a', which is training, and this case is test" in problems(result, "d")[0]


def test_no_such_folder_and_an_empty_folder_are_refused(tmp_path, store):
    with pytest.raises(SettingsError, match=r"no-such' does not exist"):
        scan.run(tmp_path / "no-such", store, SETTINGS)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SettingsError, match="has no case: it needs one folder per case"):
        scan.run(tmp_path, store, SETTINGS)


def test_the_key_depends_on_bytes_and_preparation_and_not_on_names(data, store, split):
    before = scan.run(data, store, SETTINGS, split).dataset.cases
    (data / "a").rename(data / "another name")
    after = scan.run(data, store, SETTINGS, split).dataset.cases
    assert {case.key for case in before} == {case.key for case in after}
    spline = from_mapping({"preparation": {"interpolation": "bspline"}})
    changed = scan.run(data, store, spline, split).dataset.cases
    assert not {case.key for case in before} & {case.key for case in changed}


def test_the_key_has_of_the_preparation_what_differs_from_its_defaults():
    hashes = {"image": "0" * 64}
    whole = {"files": hashes, "preparation": {}, "preparation_version": PREPARATION_VERSION}
    assert case_key(hashes, SETTINGS) == digest(whole)
    spline = whole | {"preparation": {"interpolation": "bspline"}}
    chosen = from_mapping({"preparation": {"interpolation": "bspline"}})
    assert case_key(hashes, chosen) == digest(spline)


def test_labels_are_part_of_the_key_where_they_are_set_in_any_order_and_bounds_never():
    hashes = {"image": "0" * 64}
    keys = [
        case_key(hashes, from_mapping({"data": {"lesion_labels": labels}}))
        for labels in ([], [2], [2, 3], [3, 2, 3])
    ]
    assert keys[0] == case_key(hashes, SETTINGS)
    assert keys[2] == keys[3]
    assert len(set(keys)) == 3
    assert case_key(hashes, from_mapping({"data": {"liver_labels": [2]}})) not in keys
    bounds = from_mapping({"plausibility": {"liver_ml": [1, 2], "lesion_share": 1}})
    assert case_key(hashes, bounds) == keys[0]


def test_one_changed_voxel_changes_one_key(data, store, split, write_case):
    before = {c.name: c.key for c in scan.run(data, store, SETTINGS, split).dataset.cases}
    for path in (data / "b").iterdir():
        path.unlink()
    (data / "b").rmdir()
    write_case(data / "b", seed=77)
    after = {c.name: c.key for c in scan.run(data, store, SETTINGS, split).dataset.cases}
    assert [name for name in before if before[name] != after[name]] == ["b"]


def test_the_voxels_beside_an_mhd_header_are_part_of_the_key(data, store, split):
    image = sitk.ReadImage(str(data / "a" / "image.nii.gz"))
    (data / "a" / "image.nii.gz").unlink()
    sitk.WriteImage(image, str(data / "a" / "image.mhd"))
    before = scan.run(data, store, SETTINGS, split).dataset.cases[0].key
    sitk.WriteImage(image + 1, str(data / "a" / "image.mhd"))
    assert scan.run(data, store, SETTINGS, split).dataset.cases[0].key != before


def test_prepared_cases_are_recognised_and_give_the_same_data_set(data, store, split):
    first = scan.run(data, store, SETTINGS, split, keep_prepared=True)
    second = scan.run(data, store, SETTINGS, split)
    assert second.dataset == first.dataset
    assert [c.prepared for c in first.cases + second.cases] == [False] * 4 + [True] * 4
    assert [c.lesion_ml for c in second.cases] == [c.lesion_ml for c in first.cases]


def once(data, cases="abcd"):
    """One opening of every file of these cases."""
    return {path.relative_to(data).as_posix(): 1 for c in cases for path in (data / c).iterdir()}


def test_a_scan_opens_every_file_once_and_so_does_one_of_prepared_cases(data, store, split):
    with counted_opens(data) as opens:
        scan.run(data, store, SETTINGS, split, keep_prepared=True)
    assert opens == once(data)
    with counted_opens(data) as opens:
        assert all(c.prepared for c in scan.run(data, store, SETTINGS, split).cases)
    assert opens == once(data)


def test_the_voxels_beside_a_header_are_read_once_too(data, store, split):
    image = sitk.ReadImage(str(data / "a" / "image.nii.gz"))
    (data / "a" / "image.nii.gz").unlink()
    sitk.WriteImage(image, str(data / "a" / "image.mhd"))
    with counted_opens(data) as opens:
        assert scan.run(data, store, SETTINGS, split).findings == []
    assert opens == once(data)
    assert opens["a/image.raw"] == 1


def test_preparing_during_the_scan_gives_the_data_set_of_a_scan_alone(data, store, split):
    dataset = scan.run(data, MemoryStore(), SETTINGS, split).dataset
    result = scan.run(data, store, SETTINGS, split, keep_prepared=True)
    assert [c.prepared for c in result.cases] == [False] * 4
    assert result.dataset == dataset
    require_prepared(store, dataset)


def manifests(result, names):
    return {case_prefix(c.key) + "manifest.json" for c in result.cases if c.name in names}


def test_a_scan_that_prepares_keeps_what_the_network_could_use_and_no_data_set(data, store, split):
    # Only its role asks for the rater; as a test case it could be used.
    (data / "a" / "tumor_R1.nii.gz").unlink()
    (data / "b" / "liver.nii.gz").write_bytes(b"nothing")
    result = scan.run(data, store, SETTINGS, split, keep_prepared=True)
    assert result.dataset is None
    assert {key for key in store.keys("") if key.endswith(".json")} == manifests(result, "acd")


def test_a_wrong_split_writes_no_data_set_and_costs_no_second_preparation(
    data, store, split, tmp_path
):
    path = tmp_path / "wrong.json"
    path.write_text('{"test": ["nobody"], "validation": ["c"]}')
    result = scan.run(data, store, SETTINGS, path, keep_prepared=True)
    assert {key for key in store.keys("") if key.endswith(".json")} == manifests(result, "abcd")
    assert all(c.prepared for c in scan.run(data, store, SETTINGS, split).cases)


def test_progress_names_every_case(data, store, split):
    seen = []
    scan.run(data, store, SETTINGS, split, progress=lambda *step: seen.append(step))
    assert seen == [(f"check {n}", i, 4) for i, n in enumerate("abcd")] + [("check", 4, 4)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_listed_beside_what_is_wrong_with_others(data, store, split):
    (data / "a" / "image.nii.gz").chmod(0)
    (data / "a" / "liver.nii.gz").write_bytes(b"nothing")
    of_a = problems(scan.run(data, store, SETTINGS, split), "a")
    assert [p.split(":")[0] for p in of_a] == ["image.nii.gz", "liver.nii.gz"]


def test_a_header_without_its_voxels_is_listed_beside_what_is_wrong_with_others(data, store, split):
    (data / "a" / "image.nii.gz").unlink()
    (data / "a" / "image.mhd").write_text("NDims = 3\nElementDataFile = image.raw\n")
    (data / "a" / "liver.nii.gz").write_bytes(b"nothing")
    of_a = problems(scan.run(data, store, SETTINGS, split), "a")
    assert [p.split(":")[0] for p in of_a] == ["image.mhd", "liver.nii.gz"]
    assert "its raw file image.raw is missing" in of_a[0]


@pytest.mark.real_data
@pytest.mark.slow
def test_real_mr_is_read_and_nothing_is_wrong_with_it(real_data, store):
    result = scan.run(real_data, store, from_mapping({"data": {"test_fraction": 0.4}}))
    assert [f for f in result.findings if f.case] == []
    assert all(case.shape is not None for case in result.cases)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            MemoryError("Unable to allocate 9 GiB"),
            "does not fit into memory: Unable to allocate 9 GiB",
        ),
        (RuntimeError("sitk::ERROR: cannot\nread"), "RuntimeError in .*: sitk::ERROR"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), "UnicodeDecodeError"),
        (KeyError("dim"), "KeyError in .*: 'dim'"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_library_raises_is_a_finding_of_its_case(
    data, store, split, monkeypatch, raised, said
):
    """The library's part alone is replaced: opening one file."""
    opened = Path.open

    def fails(path, *arguments, **options):
        if path.parent.name == "b" and path.name.startswith("liver"):
            raise raised
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", fails)
    result = scan.run(data, store, SETTINGS, split)
    assert {finding.case for finding in result.findings} == {"b"}
    assert {"a", "c", "d"} <= {case.name for case in result.cases if case.shape}
    assert re.search(said, " ".join(problems(result, "b")))
    excluded = scan.run(data, store, EXCLUDE, split)
    assert excluded.excluded == ["b"]


def test_folders_whose_names_are_not_utf8_are_findings_and_can_be_left_out(data, store, split):
    """By the names that are shown, which records can hold: also in the shards of a pipeline."""
    for name in (b"F\xe4ll", b"\xff\xfe"):
        shutil.copytree(data / "a", data / os.fsdecode(name))
    result = scan.run(data, store, SETTINGS, split)
    assert {finding.case for finding in result.findings} == {r"F\xe4ll", r"\xff\xfe"}
    named = [finding.case for finding in result.findings if "is not UTF-8" in finding.problem]
    assert named == [r"F\xe4ll", r"\xff\xfe"]
    assert scan.run(data, store, EXCLUDE, split).excluded == [r"F\xe4ll", r"\xff\xfe"]
    scan_id = scan_shards.begin(str(data), store, SETTINGS, split, 2)
    for number in range(2):
        scan_shards.check_shard(store, scan_id, number)
    collected = scan_shards.collect_shards(store, scan_id, scan_shards.load(store, scan_id))
    assert collected.findings == result.findings


def test_a_file_whose_name_is_not_utf8_is_named_with_its_bytes(data, store, split):
    (data / "b" / os.fsdecode(b"tumor_\xe4.nii.gz")).write_bytes(b"")
    result = scan.run(data, store, SETTINGS, split)
    assert {finding.case for finding in result.findings} == {"b"}
    assert any(r"tumor_\xe4.nii.gz" in problem for problem in problems(result, "b"))
    json.dumps([finding.problem for finding in result.findings]).encode("ascii")

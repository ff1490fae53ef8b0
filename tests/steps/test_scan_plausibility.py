"""Files that can be read and are the wrong ones, from the folder to the data set."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from liverseg.core.volumes.volume import Volume
from liverseg.errors import SettingsError
from liverseg.imaging.files import read
from liverseg.race.records.study import open_study
from liverseg.settings import Settings, from_mapping
from liverseg.steps import tasks
from liverseg.steps.data import scan, scan_shards
from liverseg.steps.data.cases import case_prefix, load_case, load_dataset
from liverseg.storage import record
from liverseg.storage.folder import FolderStore
from liverseg.storage.memory import MemoryStore
from tests.conftest import SHAPE, grid, tiny_volumes
from tests.file_opens import counted_opens
from tests.volume_files import write

SETTINGS = Settings()
# The tiny livers have 24 ml.
QUIET = from_mapping({"plausibility": {"liver_ml": [20, 6000]}})


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def data(tmp_path, write_case):
    """Three good cases: one trains, one validates, one tests."""
    for seed, name in enumerate("abc"):
        write_case(tmp_path / "data" / name, seed=seed)
    (tmp_path / "data" / "split.json").write_text('{"test": ["c"], "validation": ["b"]}')
    return tmp_path / "data"


def said(findings, case="a"):
    return [f"{f.file}: {f.problem}" for f in findings if f.case == case]


def put(path: Path, voxels, **changes):
    """Write voxels of any type on the grid of the tiny case, as they are."""
    image = sitk.GetImageFromArray(voxels)
    geometry = grid(**changes)
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_mm)
    sitk.WriteImage(image, str(path))


LIVER, LESION = tiny_volumes()["liver"].voxels, tiny_volumes()["tumor_R1"].voxels


def image_as_mask(name):
    return lambda case: shutil.copy(case / "image.nii.gz", case / f"{name}.nii.gz")


def image_saved_again(case):
    image = read(case / "image.nii.gz")
    (case / "tumor_R1.nii.gz").unlink()
    write(case / "tumor_R1.nrrd", image)


def mask_as_image(case):
    put(case / "image.nii.gz", (LESION * 100).astype(np.int16))


def swapped(case):
    shutil.move(case / "liver.nii.gz", case / "x")
    shutil.move(case / "tumor_R1.nii.gz", case / "liver.nii.gz")
    shutil.move(case / "x", case / "tumor_R1.nii.gz")


def tumor(voxels):
    return lambda case: put(case / "tumor_R1.nii.gz", voxels)


def liver(voxels):
    return lambda case: put(case / "liver.nii.gz", voxels)


def coronal(case):
    """Every file with another spacing: y is the coarsest axis."""
    for path in case.iterdir():
        volume = read(path)
        write(path, replace(volume, geometry=grid(spacing_mm=(1.5, 16.0, 1.25))))


@pytest.mark.parametrize(
    ("fault", "file", "message"),
    [
        (image_as_mask("tumor_R1"), "tumor_R1.nii.gz", "has the voxels of 'image.nii.gz'"),
        (image_as_mask("tumor_R2"), "tumor_R2.nii.gz", "has the voxels of 'image.nii.gz'"),
        (image_as_mask("liver"), "liver.nii.gz", "has the voxels of 'image.nii.gz'"),
        (image_saved_again, "tumor_R1.nrrd", "has the voxels of 'image.nii.gz'"),
        (mask_as_image, "image.nii.gz", "larger one where the mask of R1 is"),
        (tumor(LIVER + LESION.astype(np.uint8)), "tumor_R1.nii.gz", "labels 1, 2; say which"),
        (liver(LIVER + LESION.astype(np.uint8)), "liver.nii.gz", "--liver-label or data.liver_l"),
        (tumor((LESION * 255).astype(np.uint8).view(np.int8)), "tumor_R1.nii.gz", "label -1"),
        (tumor(LESION * np.float32(0.6)), "tumor_R1.nii.gz", "a probability map"),
        (liver(LIVER * np.float32(0.5)), "liver.nii.gz", "a probability map"),
        (swapped, "tumor_R1.nii.gz", "lesions fill 100% of the liver"),
        (tumor(LIVER.astype(np.uint8)), "tumor_R1.nii.gz", "lesions fill 100% of the liver"),
        (
            tumor(np.roll(LESION, (9, 9), (1, 2)).astype(np.uint8)),
            "tumor_R1.nii.gz",
            "all 74 lesion voxels lie outside the liver",
        ),
        (liver(np.roll(LESION, 2, 1).astype(np.uint8)), "liver.nii.gz", "smallest_liver_ml"),
        (coronal, "image.nii.gz", "its slices are coronal, along y"),
    ],
)
def test_a_wrong_file_refuses_its_case_and_no_other(data, store, fault, file, message):
    fault(data / "a")
    result = scan.run(data, store, QUIET, keep_prepared=True)
    of_a = said(result.findings)
    assert any(line.startswith(f"{file}: ") and message in line for line in of_a), of_a
    # Not that there is no training case either: it is there, and has to be mended.
    assert {f.case for f in result.findings} == {"a"}
    assert result.dataset is None
    prepared = {key.split("/")[1] for key in store.keys("cases/")}
    assert prepared == {case.key for case in result.cases if case.name in "bc"}


def test_an_image_in_the_place_of_two_masks_is_named_for_each_once(data, store):
    image_as_mask("liver")(data / "a")
    image_as_mask("tumor_R2")(data / "a")
    of_a = said(scan.run(data, store, QUIET).findings)
    assert [line.split(":")[0] for line in of_a] == ["liver.nii.gz", "tumor_R2.nii.gz"]


def test_labels_in_the_place_of_the_image_are_named_although_they_are_a_mask(data, store):
    labels = LIVER.astype(np.uint8) + LESION
    put(data / "a" / "image.nii.gz", labels)
    (data / "a" / "tumor_R2.nii.gz").unlink()
    put(data / "a" / "tumor_R2.nii", labels)  # other bytes, the same voxels
    chosen = from_mapping({"data": {"lesion_labels": [2]}}, QUIET)
    of_a = said(scan.run(data, store, chosen).findings)
    assert any("'tumor_R2.nii' has the voxels of 'image.nii.gz'" in line for line in of_a), of_a


def partly_outside(case):
    voxels = np.roll(LESION, 7, 2)
    assert 0.2 < (voxels & ~LIVER).sum() / voxels.sum() < 1
    put(case / "tumor_R1.nii.gz", voxels.astype(np.uint8))
    (case / "tumor_R2.nii.gz").unlink()


def copied_rater(case):
    shutil.copy(case / "tumor_R1.nii.gz", case / "tumor_R2.nii.gz")


def raters_apart(case):
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1, 10, 12:15] = 1
    put(case / "tumor_R2.nii.gz", voxels)


def unused(case):
    shutil.copy(case / "image.nii.gz", case / "arterial.nii.gz")


@pytest.mark.parametrize(
    ("fault", "file", "message"),
    [
        (partly_outside, "tumor_R1.nii.gz", "lie outside the liver, more than"),
        (copied_rater, "tumor_R2.nii.gz", "identical to that of R1"),
        (raters_apart, "tumor_R2.nii.gz", "none of its 3 voxels is one of the 74 of R1"),
        (unused, "arterial.nii.gz", "not used: 'arterial.nii.gz'"),
        (lambda case: None, "liver.nii.gz", "outside plausibility.liver_ml (300 to 6000 ml)"),
    ],
)
def test_what_is_unlikely_is_a_warning_and_changes_no_data_set(data, store, fault, file, message):
    fault(data / "a")
    settings = SETTINGS if fault.__name__ == "<lambda>" else QUIET
    result = scan.run(data, store, settings)
    assert result.findings == []
    (warning,) = said(result.warnings)
    assert warning.startswith(f"{file}: ")
    assert message in warning
    loose = from_mapping(
        {"plausibility": {"liver_ml": [1, 6000], "outside_share": 1, "smallest_liver_ml": 0}}
    )
    assert scan.run(data, MemoryStore(), loose).dataset.digest == result.dataset.digest


@pytest.mark.parametrize(
    ("spacing", "said_of_it"),
    [
        ((16.0, 1.25, 1.5), []),
        ((24.0, 1.25, 1.5), []),
        ((25.0, 1.25, 1.5), ["slice distance of 25 mm, the training cases have 16 mm"]),
        ((16.0, 0.5, 0.5), ["in-plane spacing of 0.5 mm, the training cases have 1.25 to 1.5 mm"]),
        ((9.0, 3.0, 3.0), ["slice distance of 9 mm", "in-plane spacing of 3 mm"]),
    ],
)
@pytest.mark.parametrize("case", ["b", "c"])  # validates, tests
def test_a_spacing_that_is_not_trained_on_is_warned_of(data, store, case, spacing, said_of_it):
    for path in (data / case).iterdir():
        write(path, replace(read(path), geometry=grid(spacing_mm=spacing)))
    settings = from_mapping({"plausibility": {"smallest_liver_ml": 0, "liver_ml": [0, 6000]}})
    result = scan.run(data, store, settings)
    assert result.dataset is not None
    assert {warning.case for warning in result.warnings} <= {case}
    lines = said(result.warnings, case)
    assert len(lines) == len(said_of_it), lines
    for line, words in zip(lines, said_of_it, strict=True):
        assert line.startswith("image.nii.gz: ")
        assert words in line
        assert "plausibility.spacing_factor is 1.5" in line
    loose = from_mapping({"plausibility": {"spacing_factor": 5}}, settings)
    assert scan.run(data, store, loose).warnings == []


def test_only_training_cases_that_are_used_say_which_spacing_is_trained_on(data, store, write_case):
    """The excluded case has the spacing of the validation case."""
    write_case(data / "d", seed=3)
    for case in ("b", "d"):
        for path in (data / case).iterdir():
            write(path, replace(read(path), geometry=grid(spacing_mm=(32.0, 1.25, 1.5))))
    assert scan.run(data, store, QUIET).warnings == []
    (data / "d" / "tumor_R1.nii.gz").unlink()
    excluding = from_mapping({"data": {"refused_cases": "exclude"}}, QUIET)
    result = scan.run(data, store, excluding)
    assert result.excluded == ["d"]
    assert "slice distance of 32 mm" in said(result.warnings, "b")[0]


def test_nothing_is_said_of_good_cases(data, store):
    result = scan.run(data, store, QUIET)
    assert (result.findings, result.warnings) == ([], [])


def test_labels_choose_liver_and_lesion_and_a_healthy_case_is_reported(data, store):
    for name in "abc":
        lits = LIVER.astype(np.uint8) + (LESION if name != "a" else 0)
        put(data / name / "liver.nii.gz", lits.astype(np.uint8))
        put(data / name / "tumor_R1.nii.gz", lits.astype(np.uint8))
        (data / name / "tumor_R2.nii.gz").unlink()
    chosen = {"data": {"lesion_labels": [2], "liver_labels": [1, 2]}}
    settings = from_mapping(chosen, QUIET)
    result = scan.run(data, store, settings, keep_prepared=True)
    assert result.findings == []
    assert [w.problem for w in result.warnings] == [
        "the mask is empty: the file has the label 1, and none of data.lesion_labels (2)"
    ]
    case = load_case(store, next(c.key for c in result.dataset.cases if c.name == "b"))
    assert np.array_equal(case.original_liver, LIVER)
    assert np.array_equal(case.original_raters["R1"], LESION)
    # A liver without its lesions leaves them outside.
    only_1 = from_mapping({"data": {"lesion_labels": [2], "liver_labels": [1]}}, QUIET)
    assert (
        "data.liver_labels lacks the lesions' label"
        in said(scan.run(data, store, only_1).findings, "b")[0]
    )


def test_a_liver_without_the_chosen_labels_is_one_finding_that_names_those_it_has(data, store):
    put(data / "a" / "liver.nii.gz", LIVER.astype(np.uint8) * 6 + LESION)
    (data / "b" / "liver.nii.gz").unlink()
    put(data / "b" / "liver.nii.gz", np.zeros(SHAPE, np.uint8))
    settings = from_mapping({"data": {"liver_labels": [1, 2]}}, QUIET)
    for keep in (False, True):
        result = scan.run(data, store, settings, keep_prepared=keep)
        (of_a,) = said(result.findings)
        assert of_a == (
            "liver.nii.gz: the mask is empty: the file has the labels 6, 7, and none of "
            "data.liver_labels (1, 2); say with --liver-label which of them are the liver"
        )
        (of_b,) = said(result.findings, "b")
        assert "the liver mask is empty" in of_b
        assert result.warnings == []


def test_a_study_of_other_labels_than_those_of_the_scan_is_refused(data, store):
    settings = from_mapping({"data": {"lesion_labels": [1]}}, QUIET)
    dataset = scan.run(data, store, settings).dataset
    assert load_dataset(store, dataset.digest).labels == {"lesion": (1,)}
    assert open_study(store, settings, dataset).dataset == dataset
    for other in (QUIET, from_mapping({"data": {"lesion_labels": [1, 2]}}, QUIET)):
        with pytest.raises(SettingsError, match=r"'data.lesion_labels' is .*scanned with \(1,\)"):
            open_study(store, other, dataset)


def test_the_same_study_is_found_with_other_bounds(data, store):
    dataset = scan.run(data, store, QUIET).dataset
    first = open_study(store, QUIET, dataset)
    assert open_study(store, SETTINGS, dataset).id == first.id


def test_coronal_slices_become_the_first_axis_where_a_setting_says_so(data, store):
    for name in "abc":
        coronal(data / name)
    settings = from_mapping({"preparation": {"slice_axis": "y"}}, QUIET)
    result = scan.run(data, store, settings, keep_prepared=True)
    assert result.findings == []
    assert result.cases[0].spacing_mm == pytest.approx((16.0, 1.5, 1.25))
    assert result.cases[0].shape == (24, 6, 20)
    case = load_case(store, result.dataset.cases[0].key)
    assert case.spacing_mm == pytest.approx((16.0, 1.0, 1.0))
    # Slices to the back, rows downwards.
    assert np.array_equal(case.original_liver, LIVER.transpose(1, 0, 2)[:, ::-1])
    as_z = from_mapping({"preparation": {"slice_axis": "z"}}, QUIET)
    assert scan.run(data, store, as_z).findings == []


def test_a_prepared_case_is_judged_anew_by_other_bounds_without_being_decoded(
    data, store, monkeypatch
):
    partly_outside(data / "a")
    prepared = scan.run(data, store, QUIET, keep_prepared=True)
    monkeypatch.setattr("liverseg.steps.data.case_check.decode_files", None)
    again = scan.run(data, store, QUIET)
    assert (again.findings, again.warnings) == (prepared.findings, prepared.warnings)
    assert [c.prepared for c in again.cases] == [True] * 3
    strict = from_mapping({"plausibility": {"smallest_liver_ml": 100}})
    refused = scan.run(data, store, strict)
    assert {f.case for f in refused.findings if f.case} == set("abc")
    assert refused.dataset is None
    loose = from_mapping({"plausibility": {"outside_share": 1}}, QUIET)
    assert scan.run(data, store, loose).warnings == []


def test_a_case_that_was_prepared_without_being_measured_is_prepared_again(data, store):
    first = scan.run(data, store, QUIET, keep_prepared=True)
    key = case_prefix(first.cases[0].key) + "manifest.json"
    manifest = record.read(store, key)
    measured = manifest.pop("measured")
    record.write(store, key, manifest)
    again = scan.run(data, store, QUIET, keep_prepared=True)
    assert [c.prepared for c in again.cases] == [False, True, True]
    assert record.read(store, key)["measured"] == measured


def test_few_validation_patients_by_the_rule_are_warned_of_and_by_a_split_file_not(data, store):
    (data / "split.json").rename(data.parent / "split.json")
    settings = from_mapping({"data": {"validation_fraction": 0.4, "test_fraction": 0.3}}, QUIET)
    names = [f"patient {n}" for n in range(30)]
    for name in names:
        shutil.copytree(data / "a", data / name)
        # Not the same image in several roles.
        voxels = read(data / name / "image.nii.gz").voxels
        put(data / name / "image.nii.gz", voxels + np.float32(len(name) + names.index(name)))
    result = scan.run(data, store, settings)
    validate = sum(case.role == "validation" for case in result.cases)
    assert validate >= 5
    assert [w for w in result.warnings if not w.case] == []
    more = replace(settings, plausibility=replace(settings.plausibility, validation_patients=99))
    (warning,) = scan.run(data, store, more).warnings
    assert f"{validate} patients validate, fewer than" in warning.problem
    assert "(99)" in warning.problem
    assert "--split" in warning.problem
    by_file = scan.run(data, store, more, data.parent / "split.json")
    assert by_file.warnings == []


def test_one_patient_with_several_examinations_counts_once(tmp_path, store, write_case):
    data = tmp_path / "data"
    settings = from_mapping({"data": {"validation_fraction": 0.5, "test_fraction": 0.4}}, QUIET)
    for seed, patient in enumerate(["p0", "p1", "p2", "p2", "p3", "p4", "p5"]):
        write_case(data / f"case_{seed}", seed=seed, description={"patient": patient})
    result = scan.run(data, store, settings)
    patients = {c.patient for c in result.cases if c.role == "validation"}
    assert len(patients) < 5
    count = f"{len(patients)} patient"
    assert any(count in w.problem for w in result.warnings if not w.case) == bool(patients)


def test_the_pipeline_s_tasks_log_the_warnings_and_a_second_run_the_same(data, tmp_path, capsys):
    copied_rater(data / "a")
    store = FolderStore(tmp_path / "store")
    logs = []
    for _ in range(2):
        scan_id, names = tasks.find_cases(str(data), store.url, "demo", "", "{}", 2)
        for name in names:
            tasks.preprocess(store.url, name)
        capsys.readouterr()
        tasks.scan(store.url, scan_id)
        lines = capsys.readouterr().out.splitlines()
        logs.append([line.partition("warning: ")[2] for line in lines if "warning: " in line])
    assert logs[0] == logs[1]
    assert any("tumor_R2.nii.gz: the mask is identical to that of R1" in line for line in logs[0])
    assert sum("plausibility.liver_ml (100 to 6000 ml)" in line for line in logs[0]) == 3


def test_a_shard_s_record_has_the_warnings(data, store):
    unused(data / "a")
    scan_id = scan_shards.begin(str(data), store, QUIET, None, 1)
    checked = scan_shards.check_shard(store, scan_id, 0)
    result = scan_shards.collect_shards(store, scan_id, scan_shards.load(store, scan_id))
    assert [c.warnings for c in result.cases] == [c.warnings for c in checked]
    assert len(said(result.warnings)) == 1


def test_files_that_are_not_used_are_not_read(data, store):
    unused(data / "a")
    with counted_opens(data) as opens:
        scan.run(data, store, QUIET)
    assert "a/arterial.nii.gz" not in opens
    assert opens["a/image.nii.gz"] == 1


def test_a_split_file_may_begin_with_a_byte_order_mark(data, store, tmp_path):
    for path in (data / "split.json", tmp_path / "other.json"):
        path.write_bytes(
            b"\xef\xbb\xbf" + (data / "split.json").read_bytes().lstrip(b"\xef\xbb\xbf")
        )
    with_bom = scan.run(data, store, QUIET).dataset
    assert scan.run(data, store, QUIET, tmp_path / "other.json").dataset == with_bom
    assert [c.role for c in with_bom.cases] == ["training", "validation", "test"]
    assert json.loads((data / "split.json").read_text("utf-8-sig"))["test"] == ["c"]


def test_the_volumes_of_a_case_are_those_of_its_own_grid(data, store):
    moved = Volume(LIVER, grid(spacing_mm=(16.0, 1.25, 3.0)))
    write(data / "a" / "liver.nii.gz", moved)
    of_a = said(scan.run(data, store, QUIET).findings)
    assert len(of_a) == 1
    assert "the image has" in of_a[0]

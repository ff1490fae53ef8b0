"""Every file of a case folder is accounted for: used, an error, a warning, or no image at all."""

import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from liverseg.errors import SettingsError
from liverseg.steps.data.case_folder import case_names, find_case

USED = ("image.nii.gz", "liver.nii.gz", "tumor_R1.nii.gz")


@pytest.fixture
def case(tmp_path):
    """A complete case, of empty files: nothing is read."""
    for name in USED:
        put(tmp_path / "data" / "case" / name)
    return tmp_path / "data" / "case"


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def scanned(case):
    return find_case(case.parent, case.name)


@pytest.mark.parametrize(
    "name",
    [
        "tumour_R2.nii.gz",
        "lesion_R3.nii.gz",
        "Lesions.nrrd",
        "tumor_r2.nii.gz",
        "Tumor_R2.mha",
        "TUMOR_R2.NII.GZ",
        "tumor-R2.nii",
        "tumorR2.nii",
        "tumor_R01.nii.gz",
        "tumor_R0.nii.gz",
        "tumor_R2 (1).nii.gz",
        "tumor_R2_final.nii.gz",
        "tumor.nii.gz",
        "R2.nii.gz",
        "mask_R2.nii.gz",
        "metastases.nii.gz",
        "tumor_R2.hdr",
        "tumor_R2.nii.zip",
        "tumor_R2.nii.gz.part",
        "tumor_R2",
    ],
)
def test_what_may_be_a_rater_s_contour_is_an_error(case, name):
    put(case / name)
    ((file, problem),) = scanned(case).problems
    assert file == name
    assert problem.startswith(f"'{name}' is not understood and would be lost: expected image, ")
    assert "tumor_R1, tumor_R2" in problem
    assert scanned(case).raters == ("R1",)


@pytest.mark.parametrize(
    "name",
    [
        "Image.nii.gz",
        "IMAGE.nrrd",
        "Liver.nii.gz",
        "liver_R2.nii.gz",
        "arterial.nii.gz",
        "vessels.mha",
        "spleen.NII",
        "scan.hdr",
        "scan.img",
        "0001.dcm",
        "brain.mgz",
        "segmentation.nhdr",
        "series.tif",
        "volume.npy",
        "arrays.npz",
        "IM0001",
        "0001.IMA",
        "slice.png",
        "slice.jpeg",
        "tumor_R1.png",
        "tumor_R1.raw",
        "tumor_R1.zraw",
        "matlab.mat",
        "segmentation.seg",
        "archive.zip",
        "case.json.bak",
        "~",
        "IM0001.npy",
    ],
)
def test_any_other_image_is_a_warning_with_what_was_expected(case, name):
    put(case / name)
    case_files = scanned(case)
    assert case_files.problems == ()
    ((file, warning),) = case_files.warnings
    assert file == name
    assert warning.startswith(f"not used: '{name}'; expected image, liver and tumor_R1, tumor_R2")


@pytest.mark.parametrize(
    "name",
    [
        "README",
        "Readme.first",
        "LICENSE",
        "notes",
        "notes about the tumour.txt",
        "lesion list.xlsx",
        "tumor_R1.json",
        "tumor_R1.nii.gz.md5",
        "image.nii.gz~",
        "R2.pdf",
        "image.json",
        ".tumour_R2.nii.gz",
        "._tumor_R1.nii.gz",
        "table.csv",
        "log.TXT",
    ],
)
def test_other_files_are_nobody_s_business(case, name):
    put(case / name)
    assert (scanned(case).problems, scanned(case).warnings) == ((), ())


def test_a_segmentation_of_3d_slicer_is_a_mask_and_no_image(case):
    (case / "tumor_R1.nii.gz").unlink()
    (case / "liver.nii.gz").rename(case / "liver.seg.nrrd")
    for name in ("tumor_R1.seg.nrrd", "tumor_R2.SEG.NRRD"):
        put(case / name)
    case_files = scanned(case)
    assert (case_files.problems, case_files.warnings) == ((), ())
    assert case_files.files["liver"] == "case/liver.seg.nrrd"
    assert case_files.files["R2"] == "case/tumor_R2.SEG.NRRD"
    put(case / "tumor_R2.nii.gz")
    ((_, problem),) = scanned(case).problems
    assert problem == "there are several: 'tumor_R2.SEG.NRRD', 'tumor_R2.nii.gz'; keep one"
    (case / "tumor_R2.nii.gz").unlink()
    (case / "image.nii.gz").rename(case / "image.seg.nrrd")
    assert scanned(case).problems == (("image", "there is no 'image' file"),)
    assert "not used: 'image.seg.nrrd'" in scanned(case).warnings[0][1]


@pytest.mark.parametrize(
    "name", ["tumor_r2.seg.nrrd", "tumour_R2.seg.nrrd", "tumor_R2.seg.nii.gz", "tumor_R2.seg.mha"]
)
def test_a_segmentation_follows_the_rules_for_names(case, name):
    put(case / name)
    ((_, problem),) = scanned(case).problems
    assert problem.startswith(f"'{name}' is not understood and would be lost")


def test_a_description_that_is_no_file_is_an_error_and_waits_for_nobody(case):
    os.mkfifo(case / "case.json")
    assert scanned(case).problems == (("case.json", "'case.json' is not a regular file"),)


@pytest.mark.parametrize("name", ["dicom", "old", "Bilder"])
def test_a_folder_in_a_case_is_not_used(case, name):
    put(case / name / "image.nii.gz")
    ((file, warning),) = scanned(case).warnings
    assert file == name
    assert f"not used: '{name}' (a folder); expected" in warning


def test_one_warning_names_all_that_is_not_used(case):
    for name in ("arterial.nii", "slice.tif", "dicom/IM1", "notes.txt"):
        put(case / name)
    ((file, warning),) = scanned(case).warnings
    assert file == ""
    assert warning.startswith(
        "not used: 'arterial.nii', 'dicom' (a folder), 'slice.tif'; expected image, liver"
    )
    for number in range(20):
        put(case / f"IM{number:04}")
    ((_, warning),) = scanned(case).warnings
    assert "'IM0009', and 13 more; expected" in warning
    assert "IM0010" not in warning


def test_an_unused_copy_in_another_format_is_named_although_its_name_begins_alike(case):
    put(case / "arterial.nii")
    put(case / "arterial.nii.gz")
    put(case / "IM0001")
    put(case / "IM0001.npy")
    ((_, warning),) = scanned(case).warnings
    assert "not used: 'IM0001', 'IM0001.npy', 'arterial.nii', 'arterial.nii.gz'; " in warning


@pytest.mark.parametrize(("suffix", "voxels"), [(".mhd", ".raw"), (".nhdr", ".raw.gz")])
def test_the_voxels_of_a_header_are_used_and_those_of_none_are_not(case, suffix, voxels):
    (case / "tumor_R1.nii.gz").unlink()
    image = sitk.GetImageFromArray(np.ones((2, 3, 4), np.uint8))
    sitk.WriteImage(image, str(case / f"tumor_R1{suffix}"), useCompression=voxels == ".raw.gz")
    if suffix == ".nhdr":
        (case / "tumor_R1.nhdr").rename(case / "tumor_R1.nrrd")
    assert (case / f"tumor_R1{voxels}").exists()
    assert (scanned(case).problems, scanned(case).warnings) == ((), ())
    put(case / f"other{voxels}")
    ((file, _),) = scanned(case).warnings
    assert file == f"other{voxels}"


@pytest.mark.parametrize("name", [".cache", "@eaDir", "__MACOSX"])
def test_folders_of_systems_in_a_case_are_not_mentioned(case, name):
    put(case / name / "image.nii.gz")
    assert (scanned(case).problems, scanned(case).warnings) == ((), ())


@pytest.mark.parametrize(
    ("name", "used"),
    [("tumor_R2.NII.GZ", "R2"), ("tumor_R2.Nii", "R2"), ("tumor_R12.MHA", "R12")],
)
def test_capital_suffixes_are_those_in_small_letters(case, name, used):
    put(case / name)
    assert scanned(case).problems == ()
    assert scanned(case).files[used] == f"case/{name}"


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("tumor_R1.nii", "tumor_R1.nii.gz"),
        ("tumor_R1.NII.GZ", "tumor_R1.nii.gz"),
        ("image.NII", "image.nii.gz"),
        ("liver.mhd", "liver.nii.gz"),
    ],
)
def test_two_spellings_of_one_file_are_an_error(case, name, same):
    put(case / name)
    ((_, problem),) = scanned(case).problems
    assert "there are several: " in problem
    assert f"'{name}'" in problem
    assert f"'{same}'" in problem


def test_hidden_folders_and_folders_of_hidden_files_are_no_cases(case):
    data = case.parent
    put(data / "__MACOSX" / "case" / "._image.nii.gz")
    put(data / ".git" / "config")
    put(data / "hidden only" / ".DS_Store")
    (data / "@eaDir").mkdir()
    put(data / "lost+found" / "#12")
    assert case_names(data) == ["case"]


def test_an_empty_folder_is_what_a_copy_has_left_of_a_case(case):
    (case.parent / "nothing yet").mkdir()
    assert case_names(case.parent) == ["case", "nothing yet"]
    problems = find_case(case.parent, "nothing yet").problems
    assert [file for file, _ in problems] == ["image", "liver"]


@pytest.mark.parametrize(
    "name", ["tumor_R1.nii.gz.md5", "tumor_R1.nii.gz.dvc", "tumor_R1.nii.gz~", "R2_map.txt"]
)
def test_what_goes_with_a_contour_is_none(case, name):
    put(case / name)
    assert scanned(case).problems == ()


def test_a_folder_with_any_other_file_is_a_case_and_lacks_what_is_missing(case):
    put(case.parent / "notes only" / "notes.txt")
    assert case_names(case.parent) == ["case", "notes only"]
    problems = find_case(case.parent, "notes only").problems
    assert [text for _, text in problems] == [
        "there is no 'image' file",
        "there is no 'liver' file",
    ]


def test_where_only_hidden_folders_are_there_is_no_case(case):
    shutil.rmtree(case)
    put(case.parent / "__MACOSX" / "image.nii.gz")
    with pytest.raises(SettingsError, match="has no case"):
        case_names(case.parent)


def test_a_link_to_a_folder_is_a_case_and_a_dangling_one_is_not(case):
    (case.parent / "linked").symlink_to(case)
    (case.parent / "dangling").symlink_to(case / "nowhere")
    assert case_names(case.parent) == ["case", "linked"]


def test_case_json_may_begin_with_a_byte_order_mark(case):
    (case / "case.json").write_bytes(b'\xef\xbb\xbf{"patient": "P7", "synthetic": true}')
    assert (scanned(case).patient, scanned(case).synthetic) == ("P7", True)
    assert scanned(case).problems == ()


def test_a_case_json_in_another_encoding_is_an_error_of_its_case(case):
    (case / "case.json").write_bytes('{"patient": "Müller"}'.encode("utf-16"))
    ((file, problem),) = scanned(case).problems
    assert (file, "cannot be read" in problem) == ("case.json", True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_a_case_with_a_problem(case):
    case.chmod(0)
    try:
        assert case_names(case.parent) == ["case"]
        assert "the folder cannot be read" in scanned(case).problems[0][1]
    finally:
        case.chmod(0o755)


def test_voxels_of_another_name_than_their_header_are_used(case):
    (case / "tumor_R1.nii.gz").unlink()
    image = sitk.GetImageFromArray(np.ones((2, 3, 4), np.uint8))
    sitk.WriteImage(image, str(case / "tumor_R1.mhd"))
    header = case / "tumor_R1.mhd"
    header.write_text(header.read_text().replace("tumor_R1.raw", "voxels.bin"))
    (case / "tumor_R1.raw").rename(case / "voxels.bin")
    assert (scanned(case).problems, scanned(case).warnings) == ((), ())

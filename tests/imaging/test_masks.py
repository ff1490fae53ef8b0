"""What is a mask, and what else may lie in the place of one."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from liverseg.errors import CaseError
from liverseg.imaging.files import ORIENTATIONS, read
from liverseg.imaging.masks import MOST_LABELS, read_mask
from tests.volume_files import write

SHAPE = (4, 6, 5)


def written(path, voxels):
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    return path


def box(dtype=np.uint8):
    voxels = np.zeros(SHAPE, dtype)
    voxels[1:3, 2:4, 1:4] = 1
    return voxels


def noise(low, high, dtype):
    return np.random.default_rng(0).uniform(low, high, SHAPE).astype(dtype)


def two_labels():
    voxels = box()
    voxels[0, 0, 0] = 2
    return voxels


@pytest.mark.parametrize("value", [1, 2, 255, 0.9999999, 1.00001526, 254.9995])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_one_label_is_the_mask_whatever_its_value(tmp_path, value, suffix):
    whole = isinstance(value, int)
    voxels = box(np.uint8 if whole else np.float64) * (np.uint8(value) if whole else value)
    mask = read_mask(written(tmp_path / f"m{suffix}", voxels))
    assert mask.voxels.dtype == bool
    assert np.array_equal(mask.voxels, box() == 1)
    assert mask.labels == (round(value),)


SEGMENTS = """Segment0_ID:=Segment_1
Segment0_LabelValue:=1
Segment0_Name:=lesion: left lobe
Segment0_Tags:=Segmentation.Status:inprogress|TerminologyEntry:Segmentation category
Segmentation_ContainedRepresentationNames:=Binary labelmap|
Segmentation_MasterRepresentation:=Binary labelmap
"""


def segmentation(path, sizes, kinds, directions, voxels):
    """As 3D Slicer writes it."""
    head = (
        f"NRRD0004\ntype: unsigned char\ndimension: {len(sizes)}\n"
        f"space: left-posterior-superior\nsizes: {' '.join(map(str, sizes))}\n"
        f"space directions: {directions}\nkinds: {kinds}\nencoding: gzip\n"
        f"space origin: (1,2,3)\n{SEGMENTS}\n"
    )
    path.write_bytes(head.encode() + gzip.compress(voxels.tobytes()))
    return path


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".SEG.NRRD"])
@pytest.mark.parametrize("layers", [0, 1])
def test_a_segmentation_of_3d_slicer_is_a_mask(tmp_path, suffix, layers):
    path = segmentation(
        tmp_path / f"tumor_R1{suffix}",
        (*[1] * layers, *SHAPE[::-1]),
        "list " * layers + "domain domain domain",
        "none " * layers + "(0.8,0,0) (0,0.8,0) (0,0,4)",
        box(),
    )
    mask = read_mask(path)
    assert np.array_equal(mask.voxels, box() == 1)
    assert (mask.spacing_mm, mask.labels) == ((4, 0.8, 0.8), (1,))
    path = segmentation(path, SHAPE[::-1], "domain domain domain",
                        "(0.8,0,0) (0,0.8,0) (0,0,4)", two_labels())  # fmt: skip
    with pytest.raises(CaseError, match=f"'tumor_R1{suffix}' has the labels 1, 2; say which"):
        read_mask(path)
    assert np.array_equal(read_mask(path, [2]).voxels, two_labels() == 2)


def test_segments_in_layers_are_refused_with_the_way_out(tmp_path):
    path = segmentation(
        tmp_path / "tumor_R1.seg.nrrd", (2, *SHAPE[::-1]), "list domain domain domain",
        "none (0.8,0,0) (0,0.8,0) (0,0,4)", np.stack([box(), box()], -1),
    )  # fmt: skip
    said = r"'tumor_R1.seg.nrrd' has its segments in 2 layers, .*; export the segment .* label map"
    with pytest.raises(CaseError, match=said):
        read_mask(path)


def test_a_scale_factor_of_the_header_may_round(tmp_path):
    # 1.00001526 is what nibabel makes of the labels 0, 1 and 2 in int16.
    voxels = two_labels() * np.float32(1.00001526)
    path = written(tmp_path / "m.nii", voxels)
    assert np.array_equal(read_mask(path, (1,)).voxels, box() == 1)
    assert np.argwhere(read_mask(path, (2,)).voxels).tolist() == [[0, 0, 0]]


def test_what_is_almost_0_is_outside(tmp_path):
    voxels = box(np.float32) + np.float32(0.0005)
    mask = read_mask(written(tmp_path / "m.nii", voxels))
    assert np.array_equal(mask.voxels, box() == 1)
    assert mask.labels == (1,)


def test_an_empty_file_is_an_empty_mask_without_labels(tmp_path):
    mask = read_mask(written(tmp_path / "m.nii", np.zeros(SHAPE, np.uint8)))
    assert not mask.voxels.any()
    assert mask.labels == ()


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (box(np.float32) * 0.7, r"voxels such as 0\.7: a probability map, .* cut it first"),
        (noise(0, 1, np.float32), "a probability map"),
        (box(np.float32) * np.float32(0.9985), r"such as 0\.9985: a probability map"),
        (noise(0, 3, np.float64), "grey values of an image, or labels that were interpolated"),
        (box(np.float64) * 1.4987654, r"such as 1\.498765: .* nearest neighbour"),
        (noise(-5, 600, np.int16), r"different values from .* to .* it looks like an image"),
        (np.arange(120, dtype=np.uint8).reshape(SHAPE), "has 119 different values from 1 to 119"),
        (noise(-1000, 1000, np.float32), "grey values of an image"),
        (box(np.int8) * np.int8(-1), "label -1, and labels are not negative: 255 saved with 8"),
        (-two_labels().astype(np.int16), "label -2, and labels are not negative"),
        (two_labels(), "labels 1, 2; say which of them are lesion with --lesion-label or data.les"),
        (noise(0, 8, np.uint8), r"labels 1, 2, 3, 4, 5, \.\.\.; say"),
        (np.where(box() > 0, np.nan, 0).astype(np.float32), "12 voxels that are NaN"),
    ],
)
def test_what_is_no_mask_is_refused_by_name(tmp_path, voxels, message):
    with pytest.raises(CaseError, match=rf"'m\.mha' .*{message}"):
        read_mask(written(tmp_path / "m.mha", voxels))


def test_a_liver_with_several_labels_asks_for_those_of_the_liver(tmp_path):
    with pytest.raises(CaseError, match=r"liver with --liver-label or data\.liver_labels"):
        read_mask(written(tmp_path / "m.mha", two_labels()), kind="liver")


def test_chosen_labels_are_the_mask_and_others_are_outside(tmp_path):
    path = written(tmp_path / "m.mha", two_labels())
    assert read_mask(path, (2,)).voxels.sum() == 1
    assert np.array_equal(read_mask(path, (1, 2)).voxels, two_labels() > 0)
    absent = read_mask(path, (7,))
    assert (absent.voxels.any(), absent.labels) == (False, (1, 2))


def test_among_many_labels_one_can_be_chosen_but_not_among_the_values_of_an_image(tmp_path):
    organs = np.arange(120, dtype=np.uint8).reshape(SHAPE)
    assert len(np.unique(organs)) > MOST_LABELS
    assert read_mask(written(tmp_path / "m.mha", organs), (5,)).voxels.sum() == 1
    image = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    with pytest.raises(CaseError, match=r"has 999 different values .* an image"):
        read_mask(written(tmp_path / "m.mha", image), (5,))


@pytest.mark.parametrize("labels", [(), (1,)])
def test_probabilities_and_negative_labels_are_refused_where_labels_are_chosen_too(
    tmp_path, labels
):
    for voxels in (box(np.float32) * 0.5, -box(np.int8)):
        with pytest.raises(CaseError):
            read_mask(written(tmp_path / "m.mha", voxels), labels)


@pytest.mark.parametrize("axis", ["z", "y", "x"])
@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR", "LIP", "SAL", "IRP"])
def test_slices_along_any_axis_come_first_and_the_file_gets_its_orientation_back(
    tmp_path, axis, code
):
    spacing = {"z": 2.0, "y": 1.25, "x": 0.8}
    image = sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 99, SHAPE).astype(np.int16))
    image.SetSpacing((spacing["x"], spacing["y"], spacing["z"]))
    image.SetOrigin((-3.0, 4.0, 5.5))
    original = sitk.DICOMOrient(image, code)
    sitk.WriteImage(original, str(tmp_path / "a.mha"))
    volume = read(tmp_path / "a.mha", axis)
    assert volume.spacing_mm[0] == spacing[axis]
    assert ORIENTATIONS[axis][2] in {"z": "S", "y": "P", "x": "LR"}[axis]
    direction = np.array(volume.geometry.direction).reshape(3, 3)
    assert np.linalg.det(direction) == pytest.approx(1)
    for index in [(0, 0, 0), (1, 2, 3), (3, 1, 1)]:
        position = np.array(volume.geometry.origin_mm) + direction @ (
            np.array(index[::-1]) * volume.spacing_mm[::-1]
        )
        pixel = original.GetPixel(*original.TransformPhysicalPointToIndex(position.tolist()))
        assert volume.voxels[index] == pixel
    write(tmp_path / "b.mha", volume)
    back = sitk.ReadImage(str(tmp_path / "b.mha"))
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(original))
    assert back.GetOrigin() == pytest.approx(original.GetOrigin())
    assert back.GetDirection() == pytest.approx(original.GetDirection())


def test_why_a_mask_is_empty_names_the_labels_that_are_there(tmp_path):
    path = written(tmp_path / "liver.nii.gz", np.full(SHAPE, 3, np.uint8))
    why = read_mask(path, (7, 8)).why_empty((7, 8))
    assert why == "it has the labels 3, and only 7, 8 count"

"""Where voxels lie: one truth per file, the same for every reader, and kept by every format."""

import itertools
import re

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from liverseg.core.volumes.volume import Geometry, Volume
from liverseg.errors import CaseError, SettingsError, StoreError
from liverseg.imaging.files import _in_order_of, check_same_grid, read, voxels_of
from liverseg.imaging.nifti import header
from tests.volume_files import write

SPACING = (0.8, 1.25, 6.1)
ORIGIN = (-31.53, 12.251, 80.1)
SHAPE = (3, 4, 5)
VOXELS = np.random.default_rng(0).integers(0, 900, SHAPE[::-1]).astype(np.int16)
# By 45 degrees about two axes, an axis of the image is as near to one of the patient as to another.
TILTS = {"straight": (0, 0, 0), "tilted": (23, 0, 0), "oblique": (11, 23, -7), "by 45": (0, 0, 45),
         "by 45 about x and y": (45, 45, 0), "by 45 about x and z": (45, 0, 45)}  # fmt: skip
ORIENTATIONS = [
    np.eye(3)[:, order] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def affine(direction=None, spacing=SPACING, origin=ORIGIN):
    """From voxels (x, y, z) to millimetres in RAS, as nibabel has it."""
    result = np.eye(4)
    result[:3, :3] = (np.diag([-1, -1, 1]) if direction is None else direction) * spacing
    result[:3, 3] = origin
    return result


def nifti(path, sform=None, qform=None, pixdim=None, voxels=VOXELS, **fields):
    """Write a file with any combination of the fields that say where voxels lie."""
    image = nibabel.Nifti1Image(voxels, None)
    image.header.set_zooms(SPACING + (1,) * (voxels.ndim - 3))
    image.set_sform(sform, 0 if sform is None else 1)
    image.set_qform(qform, 0 if qform is None else 1)
    if pixdim is not None:
        image.header["pixdim"][1:4] = pixdim
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def grid(image):
    """From voxels (x, y, z) to millimetres in LPS, as ITK has it."""
    steps = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return np.column_stack([steps, image.GetOrigin()])


@pytest.mark.parametrize("codes", ["sform", "qform", "both"])
@pytest.mark.parametrize("tilt", TILTS)
def test_nibabel_finds_the_same_affine_in_what_is_written_for_every_orientation(
    tmp_path, tilt, codes
):
    rotation = Rotation.from_euler("XYZ", TILTS[tilt], degrees=True).as_matrix()
    for orientation in ORIENTATIONS:
        made = affine(rotation @ orientation)
        sform, qform = (made if codes in (name, "both") else None for name in ("sform", "qform"))
        path = nifti(tmp_path / "in.nii", sform, qform)
        volume = read(path)
        write(tmp_path / "out.nii", volume)
        one, other = (nibabel.load(tmp_path / name) for name in ("in.nii", "out.nii"))
        if codes == "qform":  # which nibabel computes in float64
            np.testing.assert_allclose(one.affine, other.affine, rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(one.affine, other.affine)
        np.testing.assert_allclose(other.get_qform(), other.affine, atol=2e-3)
        np.testing.assert_array_equal(one.get_fdata(), other.get_fdata())
        volume_mm3 = np.prod(volume.spacing_mm)
        assert volume_mm3 == pytest.approx(abs(np.linalg.det(one.affine[:3, :3])), rel=1e-6)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("tilt", TILTS)
def test_every_orientation_survives_every_format(tmp_path, tilt, suffix):
    rotation = Rotation.from_euler("XYZ", TILTS[tilt], degrees=True).as_matrix()
    original = sitk.GetImageFromArray(VOXELS.T)
    original.SetSpacing(SPACING)
    original.SetOrigin(ORIGIN)
    for orientation in ORIENTATIONS:
        original.SetDirection((rotation @ orientation).ravel().tolist())
        sitk.WriteImage(original, str(tmp_path / "in.mha"))
        write(tmp_path / f"out{suffix}", read(tmp_path / "in.mha"))
        write(tmp_path / "back.mha", read(tmp_path / f"out{suffix}"))
        for name in (f"out{suffix}", "back.mha"):
            image = sitk.ReadImage(str(tmp_path / name))
            exact = 2e-6 if suffix == ".nii.gz" else 1e-12
            np.testing.assert_allclose(grid(image), grid(original), rtol=0, atol=4 * exact)
            np.testing.assert_array_equal(sitk.GetArrayViewFromImage(image), VOXELS.T)


@pytest.mark.parametrize("tilt", TILTS)
def test_an_image_has_the_axes_of_its_mask_and_keeps_its_own_in_the_file(tmp_path, tilt):
    """Brought to the grid of any other orientation of itself, and written from there."""
    rotation = Rotation.from_euler("XYZ", TILTS[tilt], degrees=True).as_matrix()
    path = nifti(tmp_path / "in.nii", affine(rotation))
    volume, original = read(path), nibabel.load(path)
    for orientation in ORIENTATIONS:
        steps = affine(rotation @ orientation)
        reference = read(nifti(tmp_path / "reference.nii", steps))
        turned = _in_order_of(reference.geometry, volume)
        write(tmp_path / "out.nii", turned)
        back = nibabel.load(tmp_path / "out.nii")
        np.testing.assert_allclose(back.affine, original.affine, rtol=1e-6, atol=1e-5)
        np.testing.assert_array_equal(back.get_fdata(), original.get_fdata())


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_text_formats_are_read_to_the_last_bit_as_itk_reads_them(tmp_path, suffix):
    image = sitk.GetImageFromArray(VOXELS.T)
    for seed in range(20):
        image.SetDirection(Rotation.random(rng=np.random.default_rng(seed)).as_matrix().ravel())
        image.SetSpacing(np.random.default_rng(seed).uniform(0.5, 8, 3))
        image.SetOrigin(np.random.default_rng(seed).uniform(-300, 300, 3))
        sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
        expected = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / f"a{suffix}")), "LPS")
        actual = read(tmp_path / f"a{suffix}").geometry
        assert actual.spacing_mm == expected.GetSpacing()[::-1]
        assert actual.origin_mm == expected.GetOrigin()
        assert actual.direction == expected.GetDirection()


def rotated(degrees, axis="z"):
    return affine(Rotation.from_euler(axis, degrees, degrees=True).as_matrix() * (-1, -1, 1))


def moved(x, y=0.0, z=0.0):
    return affine(origin=np.add(ORIGIN, (x, y, z)))


CONTRADICTIONS = {
    "20 mm apart": (moved(20.0), affine(), "20 mm"),
    "0.02 mm apart": (affine(), moved(0.0, 0.02), "0.02 mm"),
    "turned by a degree": (rotated(1), affine(), "mm"),
    "turned by 0.2 degrees": (rotated(0.2), affine(), "mm"),
    "turned by 0.2 degrees the other way": (rotated(-0.2), affine(), "mm"),
    "upside down": (affine(np.diag([-1, -1, -1])), affine(), r"24\.4 mm"),
    "another handedness": (affine(np.diag([1, -1, 1])), affine(), "mm"),
    "another axis first": (affine(np.eye(3)[:, [1, 0, 2]]), affine(), "mm"),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_a_qform_and_an_sform_that_disagree_are_refused_with_both(tmp_path, kind):
    sform, qform, distance = CONTRADICTIONS[kind]
    path = nifti(tmp_path / "image.nii.gz", sform, qform, pixdim=SPACING)
    message = (
        rf"'image.nii.gz' contradicts itself: its qform and its sform disagree by .*{distance}"
    )
    with pytest.raises(CaseError, match=message + r".* at \(.*\) and \(.*\) mm .*set both"):
        read(path)


@pytest.mark.parametrize("distance", [0.005, 0.0099, -0.0099, 0.0101, -0.0101])
@pytest.mark.parametrize("axis", range(3))
def test_a_qform_and_an_sform_within_a_hundredth_of_a_millimetre_are_one(tmp_path, axis, distance):
    away = distance * np.eye(3)[axis]
    path = nifti(tmp_path / "image.nii.gz", moved(*away), affine())
    if abs(distance) > 0.01:
        with pytest.raises(CaseError, match=r"its qform and its sform disagree by 0\.0101 mm"):
            read(path)
    else:
        # The sform's: x and y of LPS run the other way.
        expected = (ORIGIN + away) * (-1, -1, 1)
        assert read(path).geometry.origin_mm == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("degrees", [0.003, 0.01, 0.02, 0.03])
def test_what_a_quaternion_cannot_hold_is_no_contradiction(degrees):
    """Of a rotation by nearly 180 degrees its rounding loses up to 0.05: 0.2 mm at a corner."""
    rotation = Rotation.from_euler("zx", [degrees, 17], degrees=True).as_matrix() * (-1, -1, 1)
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), affine(rotation))
    image.set_qform(image.affine, 1)
    image.header["dim"][1:4] = 400, 400, 50
    image.header["magic"], image.header["vox_offset"] = b"n+1", 352
    assert header("a.nii", image.header.binaryblock).size == (400, 400, 50)
    image.header["qoffset_y"] += 0.02
    with pytest.raises(CaseError, match="disagree by"):
        header("a.nii", image.header.binaryblock)


FACTORS = [(1.0005, True), (0.9995, True), (1.002, False)]
# Not along z, whose 12 mm reach 0.01 mm before that.
AT_THE_BOUND = [(1.00099, True), (0.99901, True), (1.00101, False), (0.99899, False)]


@pytest.mark.parametrize(("axis", "factor", "accepted"), [
    *((axis, *factor) for axis in range(3) for factor in FACTORS),
    *((axis, *factor) for axis in range(2) for factor in AT_THE_BOUND),
])  # fmt: skip
def test_a_pixdim_that_disagrees_with_the_affine_is_refused(tmp_path, axis, factor, accepted):
    pixdim = [mm * (factor if axis == i else 1) for i, mm in enumerate(SPACING)]
    path = nifti(tmp_path / "image.nii", affine(), pixdim=pixdim)
    if accepted:
        assert read(path).spacing_mm == pytest.approx(SPACING[::-1], rel=1e-6)
        return
    stored = np.float32(pixdim[axis])
    with pytest.raises(CaseError, match=rf"contradicts.*{stored:.7g}.* by pixdim.*sform"):
        read(path)


@pytest.mark.parametrize("form", ["sform", "qform"])
@pytest.mark.parametrize("distance", [0.0098, -0.0098, 0.0102, -0.0102])
@pytest.mark.parametrize("axis", range(3))
def test_a_pixdim_may_end_no_axis_a_hundredth_of_a_millimetre_away(axis, distance, form):
    """Of 300 voxels, so that it is much less than a thousandth of a spacing."""
    made = nibabel.Nifti1Image(VOXELS, affine()).header
    made["magic"], made["vox_offset"] = b"n+1", 352
    made["dim"][1:4] = np.where(np.arange(3) == axis, 300, 3)
    made.set_sform(affine(), 1)
    made.set_qform(affine(), 1)
    made[{"sform": "qform_code", "qform": "sform_code"}[form]] = 0
    made["pixdim"][1 + axis] += distance / 299
    if form == "qform" or abs(distance) < 0.01:  # a qform has its spacing from pixdim
        header("image.nii", made.binaryblock)
    else:
        with pytest.raises(CaseError) as caught:
            header("image.nii", made.binaryblock)
        text = str(caught.value)
        by_pixdim, _, by_sform = text.partition(" mm by pixdim and (")
        assert f"{made['pixdim'][1 + axis]:.7g}" in by_pixdim
        assert f"{SPACING[axis]}" in by_sform
        assert re.search(r"which is 0\.010[123] mm over the volume; set both to the one", text)


AMBIGUOUS = {
    "no code": ({"sform_code": 0}, "does not say how the patient lies"),
    "metres": ({"xyzt_units": 1}, r"in metres \(xyzt_units 1\)"),
    "micrometres": ({"xyzt_units": 3}, "in micrometres"),
    "negative pixdim": ({"pixdim": [1, -0.8, 1.25, 6.1, 0, 0, 0, 0]}, "spacing .*-0.8"),
    "pixdim of 0": ({"pixdim": [1, 0.8, 0, 6.1, 0, 0, 0, 0]}, "it must be > 0"),
    "pixdim NaN": ({"pixdim": [1, 0.8, np.nan, 6.1, 0, 0, 0, 0]}, "spacing .*nan"),
    "infinite origin": ({"srow_x": [0.8, 0, 0, np.inf]}, "its origin is .*inf"),
    "a column of 0": ({"srow_x": [0, 0, 0, 1]}, r"spacing \(x, y, z\) of \(0"),
    "quaternion": ({"qform_code": 1, "quatern_b": 0.9, "quatern_c": 0.9}, "its qform is no rot"),
    "qfac": ({"qform_code": 1, "pixdim": [3, 0.8, 1.25, 6.1, 0, 0, 0, 0]}, r"pixdim\[0\] 3"),
    "slope": ({"scl_slope": np.inf}, "scl_slope is inf"),
    "intercept": ({"scl_slope": 2, "scl_inter": np.nan}, "scl_inter nan"),
    "intercept alone": ({"scl_slope": 0, "scl_inter": 5}, "scl_inter is 5"),
    "complex": ({"datatype": 32}, "2 values a voxel"),
    "RGB": ({"datatype": 128}, "3 values a voxel"),
    "bits": ({"datatype": 1}, "type 1, which is not read"),
    "dimensions": ({"dim": [9, 3, 4, 5, 1, 1, 1, 1]}, "9 dimensions"),
    "negative size": ({"dim": [3, 3, -4, 5, 1, 1, 1, 1]}, "3 x -4 x 5"),
    "pair": ({"magic": b"ni1"}, "one half of a pair"),
    "Analyze": ({"magic": b"\0\0\0"}, "not a NIfTI file: its magic"),
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_what_readers_understand_differently_is_refused(kind):
    fields, message = AMBIGUOUS[kind]
    made = nibabel.Nifti1Image(VOXELS, affine()).header
    made["magic"], made["vox_offset"], made["scl_slope"], made["scl_inter"] = b"n+1", 352, 1, 0
    made["qform_code"] = 0
    header("image.nii", made.binaryblock)
    for name, value in fields.items():
        made[name] = value
    with pytest.raises(CaseError, match=f"'image.nii' .*{message}"):
        header("image.nii", made.binaryblock)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_scaled_values_are_those_of_itk_and_nibabel(tmp_path, dtype):
    path = nifti(tmp_path / "a.nii", affine(), voxels=VOXELS.astype(dtype) % 251)
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([0.37, -11.5], "<f4").tobytes()
    path.write_bytes(data)
    voxels = read(path).voxels
    expected = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS"))
    np.testing.assert_array_equal(voxels, expected.astype(np.float32))
    by_nibabel = nibabel.load(path).get_fdata()
    np.testing.assert_allclose(np.sort(voxels, None), np.sort(by_nibabel, None), rtol=1e-6)


def sheared(path, cosine):
    """Write a file whose axes x and y meet at another angle than 90 degrees."""
    steps = np.diag(SPACING)
    steps[:, 1] = 1.25 * np.array([cosine, np.sqrt(1 - cosine**2), 0])
    if path.suffix == ".nii":
        return nifti(path, np.vstack([np.column_stack([steps, ORIGIN]), (0, 0, 0, 1)]))
    write(path, Volume(VOXELS.T, GEOMETRY))
    data = path.read_bytes()
    if path.suffix == ".nrrd":
        x, y = ("({},{},{})".format(*steps[:, axis]).encode() for axis in (0, 1))
        data = data.replace(b"(0.80000000000000004,0,0) (0,1.25,0)", x + b" " + y)
    else:
        row = "{} {} {}".format(*steps[:, 1] / 1.25).encode()
        data = data.replace(b"1 0 0 0 1 0 0 0 1", b"1 0 0 " + row + b" 0 0 1")
    path.write_bytes(data)
    return path


GEOMETRY = Geometry(VOXELS.T.shape, SPACING[::-1], ORIGIN, tuple(np.eye(3).ravel()), (1, 2, 3))


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize(("cosine", "degrees"), [
    (0.3, "72.542"), (-0.02, "91.146"), (3e-4, "89.983"), (-1.2e-4, "90.007"),
])  # fmt: skip
def test_sheared_axes_are_refused_with_the_angle(tmp_path, suffix, cosine, degrees):
    path = sheared(tmp_path / f"image{suffix}", cosine)
    message = f"'image{suffix}' is sheared: its axes x and y meet at {degrees} degrees"
    with pytest.raises(CaseError, match=message):
        read(path)


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_axes_at_right_angles_but_for_rounding_are_read_and_written(tmp_path, suffix):
    path = sheared(tmp_path / f"image{suffix}", 8e-5)
    volume = read(path)
    for other in (".nii.gz", ".nrrd", ".mha"):
        write(tmp_path / f"out{other}", volume)
        back = read(tmp_path / f"out{other}").geometry
        assert back.direction == pytest.approx(volume.geometry.direction, abs=1e-6)


def test_a_grid_that_cannot_be_read_back_is_not_written(tmp_path):
    skew = tuple(np.array([[1, 0.01, 0], [0, 1, 0], [0, 0, 1]]).ravel())
    with pytest.raises(StoreError, match=r"cannot write '.*out.nrrd': 'out.nrrd' is sheared"):
        write(tmp_path / "out.nrrd", Volume(VOXELS.T, Geometry(
            GEOMETRY.shape, GEOMETRY.spacing_mm, GEOMETRY.origin_mm, skew, (1, 2, 3))))  # fmt: skip
    far = Volume(VOXELS.T, Geometry(
        GEOMETRY.shape, GEOMETRY.spacing_mm, (400_000.015625, 0, 0), GEOMETRY.direction, (1, 2, 3)
    ))  # fmt: skip
    with pytest.raises(SettingsError, match=r"out.nii.gz': its format moves .* 0.0156 mm; .*nrrd"):
        write(tmp_path / "out.nii.gz", far)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "out.nrrd", far)
    assert read(tmp_path / "out.nrrd").geometry.origin_mm == far.geometry.origin_mm


DIMENSIONS = [(1,), (1, 1), (1, 1, 1)]


@pytest.mark.parametrize("more", DIMENSIONS)
def test_one_volume_of_more_dimensions_is_a_volume_in_nifti(tmp_path, more):
    path = nifti(tmp_path / "a.nii.gz", affine(), voxels=VOXELS.reshape(*VOXELS.shape, *more))
    assert read(path).voxels.shape == SHAPE
    assert voxels_of(path) == 60


@pytest.mark.parametrize(("more", "said"), [
    ((4,), "4 volumes of 5 x 4 x 3"), ((2, 3), "6 volumes of"), ((1, 3), "3 values a voxel"),
    ((1, 1, 7), "7 volumes"),
])  # fmt: skip
def test_several_volumes_or_values_are_refused_in_nifti(tmp_path, more, said):
    voxels = np.zeros((*VOXELS.shape, *more), np.int16)
    with pytest.raises(CaseError, match=f"'a.nii.gz' has {said}"):
        read(nifti(tmp_path / "a.nii.gz", affine(), voxels=voxels))


LPS = "space: left-posterior-superior\nspace origin: (1,2,3)\n"
ONE_VOLUME_NRRD = {
    "a list first": "sizes: 1 5 4 3\nkinds: list domain domain domain\n" + LPS
    + "space directions: none (2,0,0) (0,3,0) (0,0,4)\n",
    "a list last": "sizes: 5 4 3 1\nkinds: domain domain domain list\n" + LPS
    + "space directions: (2,0,0) (0,3,0) (0,0,4) none\n",
    "a vector of one": "sizes: 1 5 4 3\nkinds: vector space space space\n" + LPS
    + "space directions: (nan,nan,nan) (2, 0, 0) (0, 3, 0) (0, 0, 4)\n",
    "two lists": "sizes: 1 1 5 4 3\nkinds: list list domain domain domain\n" + LPS
    + "space directions: none none (2,0,0) (0,3,0) (0,0,4)\n",
    "time": "sizes: 5 4 3 1\nkinds: domain domain domain time\n"
    "space: left-posterior-superior-time\nspace origin: (1,2,3,0)\n"
    "space directions: (2,0,0,0) (0,3,0,0) (0,0,4,0) (0,0,0,1)\n",
    "no kinds, last": "sizes: 5 4 3 1\nspacings: 2 3 4 1\n",
    "no kinds, first": "sizes: 1 5 4 3\nspacings: nan 2 3 4\n",
    "RAS": "sizes: 5 4 3\nspace: RAS\nspace origin: (-1,-2,3)\n"
    "space directions: (-2,0,0) (0,-3,0) (0,0,4)\n",
    "LAS": "sizes: 5 4 3\nspace: left-anterior-superior\nspace origin: (1,-2,3)\n"
    "space directions: (2,0,0) (0,-3,0) (0,0,4)\n",
}  # fmt: skip


def nrrd(path, fields):
    dimension = len(fields.partition("sizes:")[2].partition("\n")[0].split())
    head = f"NRRD0004\ntype: int16\ndimension: {dimension}\nendian: little\nencoding: raw\n{fields}"
    path.write_bytes(head.encode() + b"\n" + VOXELS.T.tobytes())
    return path


@pytest.mark.parametrize("kind", ONE_VOLUME_NRRD)
def test_one_volume_is_read_however_an_nrrd_file_says_it(tmp_path, kind):
    volume = read(nrrd(tmp_path / "a.nrrd", ONE_VOLUME_NRRD[kind]))
    np.testing.assert_array_equal(volume.voxels, VOXELS.T)
    assert volume.spacing_mm == (4, 3, 2)
    assert volume.geometry.origin_mm == ((0, 0, 0) if "no kinds" in kind else (1, 2, 3))
    assert voxels_of(tmp_path / "a.nrrd") == 60


@pytest.mark.parametrize("line", [
    "seen by:=a reader: the second", "a key: with a colon:=1", "note:=", "type:=of nothing",
    "Segment0_Tags:=Segmentation.Status:inprogress|x:y", "url:=http://localhost:80/a?b:=c",
])  # fmt: skip
def test_keys_of_anybody_s_own_may_have_colons_in_nrrd(tmp_path, line):
    path = nrrd(tmp_path / "a.nrrd", f"{line}\nsizes: 5 4 3\nspacings: 2 3 4\n# a:b: c:=d\n")
    np.testing.assert_array_equal(read(path).voxels, VOXELS.T)
    assert read(path).spacing_mm == (4, 3, 2)


@pytest.mark.parametrize("line", ["spaecings: 2 3 4", "spacings 2 3 4", "a key with nothing"])
def test_a_line_that_is_neither_field_nor_key_is_refused_in_nrrd(tmp_path, line):
    path = nrrd(tmp_path / "a.nrrd", f"{line}\nsizes: 5 4 3\n")
    with pytest.raises(CaseError, match=f"'a.nrrd' is damaged: its header has the line '{line}'"):
        read(path)


def test_a_value_of_a_field_may_look_like_a_key_in_nrrd(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", "content: a:=b\nsizes: 5 4 3\nspacings: 2 3 4\n")
    assert read(path).spacing_mm == (4, 3, 2)


@pytest.mark.parametrize("spelling", ["byte skip", "byteskip"])
def test_voxels_at_the_end_of_an_nrrd_file_are_read_if_nothing_is_before_them(tmp_path, spelling):
    path = nrrd(tmp_path / "a.nrrd", f"sizes: 5 4 3\n{spelling}: -1\n")
    np.testing.assert_array_equal(read(path).voxels, VOXELS.T)
    whole = path.read_bytes()
    end = whole.index(b"\n\n") + 2
    for changed, said in (
        (whole[:-1], "is truncated: 119 bytes"),
        (whole + b"\0", "has 1 bytes after its 120 bytes of voxels"),
        (whole[:end] + b"xy" + whole[end:], "has 2 bytes after its 120 bytes of voxels"),
        (whole.replace(b": raw", b": gzip"), "skips 0 lines and -1 bytes"),
        (whole.replace(b": -1", b": -2"), "skips 0 lines and -2 bytes"),
    ):
        path.write_bytes(changed)
        with pytest.raises(CaseError, match=f"'a.nrrd' {said}"):
            read(path)


@pytest.mark.parametrize("encoding", ["bzip2", "bz2", "hex", ""])
def test_an_encoding_that_is_not_read_is_named_with_those_to_choose(tmp_path, encoding):
    path = nrrd(tmp_path / "a.nrrd", "sizes: 5 4 3\n")
    path.write_bytes(path.read_bytes().replace(b": raw", f": {encoding}".encode()))
    said = f"'a.nrrd' has the encoding '{encoding}', which is not read; save it as raw or gzip"
    with pytest.raises(CaseError, match=said):
        read(path)


SEVERAL_NRRD = {
    "volumes": ("sizes: 5 4 1 3\nkinds: domain domain domain list\nspacings: 1 1 1 nan\n", "3 vol"),
    "volumes by direction": (
        "sizes: 3 5 4 1\n" + LPS + "space directions: none (2,0,0) (0,3,0) (0,0,4)\n", "3 volumes"),
    "colours": ("sizes: 3 5 4 1\nkinds: RGB-color domain domain domain\n", "3 values a voxel"),
    "complex": ("sizes: 2 5 2 3\nkinds: complex domain domain domain\n", "2 values a voxel"),
    "flat": ("sizes: 5 12\n", "is not a volume: it has 5 x 12"),
    "spacing of 0": ("sizes: 5 4 3\nspacings: 1 0 1\n", "it must be > 0"),
    "a missing vector": (
        "sizes: 5 4 3\n" + LPS + "space directions: (2,0,0) (0,3,0) none\n", "3 volumes"),
    "short vectors": (
        "sizes: 5 4 3\n" + LPS + "space directions: (2,0) (0,3) (0,0)\n", "three numbers each"),
    "twice": ("sizes: 5 4 3\nsizes: 5 4 3\n", "has the line 'sizes"),
    "words": ("sizes: 5 4 three\n", "'sizes' is '5 4 three'"),
    "underscores": ("sizes: 5 4 0_3\n", "'sizes' is '5 4 0_3'"),
    "axis mins": ("sizes: 5 4 3\nspacings: 1 1 1\naxis mins: 1 1 1\n", "by 'axis mins' without"),
    "axismins": ("sizes: 5 4 3\nspacings: 1 1 1\naxismins: 1 1 1\n", "by 'axismins' without"),
    "a space": ("sizes: 5 4 3\nspacings: 1 1 1\nspace: RAS\n", "by 'space' without"),
    "an origin": ("sizes: 5 4 3\nspace dimension: 3\nspace origin: (1,2,3)\n", "by 'space origin'"),
    "line skip": ("sizes: 5 4 3\nline skip: 2\n", "skips 2 lines"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SEVERAL_NRRD)
def test_what_is_no_volume_is_refused_in_nrrd(tmp_path, kind):
    fields, message = SEVERAL_NRRD[kind]
    with pytest.raises(CaseError, match=f"'a.nrrd' .*{message}"):
        read(nrrd(tmp_path / "a.nrrd", fields))


def meta_image(path, **fields):
    values = {"ObjectType": "Image", "NDims": 3, "BinaryData": "True", "Offset": "1 2 3",
              "ElementSpacing": "2 3 4", "DimSize": "5 4 3", "ElementType": "MET_SHORT",
              "ElementDataFile": "LOCAL"}  # fmt: skip
    ordered = {"ElementDataFile": "", **values, **fields}
    ordered["ElementDataFile"] = ordered.pop("ElementDataFile")
    text = "".join(f"{name} = {value}\n" for name, value in ordered.items() if value is not None)
    path.write_bytes(text.encode() + VOXELS.T.tobytes())
    return path


ONE_VOLUME_META = {
    "plain": {},
    "one channel": {"ElementNumberOfChannels": 1},
    "four dimensions": {"NDims": 4, "DimSize": "5 4 3 1", "ElementSpacing": "2 3 4 1",
                        "Offset": "1 2 3 0"},
    "five dimensions": {"NDims": 5, "DimSize": "5 4 3 1 1", "ElementSpacing": "2 3 4 1 9",
                        "Offset": "1 2 3 0 0", "TransformMatrix": " ".join(
                            str(int(v)) for v in np.eye(5).ravel())},
    "element size": {"ElementSpacing": None, "ElementSize": "2 3 4"},
    "position": {"Offset": None, "Position": "1 2 3"},
    "said twice alike": {"Position": "1.0 2 3", "Rotation": "1 0 0 0 1 0 0 0 1"},
}  # fmt: skip


@pytest.mark.parametrize("kind", ONE_VOLUME_META)
def test_one_volume_is_read_however_a_meta_image_says_it(tmp_path, kind):
    volume = read(meta_image(tmp_path / "a.mha", **ONE_VOLUME_META[kind]))
    np.testing.assert_array_equal(volume.voxels, VOXELS.T)
    assert (volume.spacing_mm, volume.geometry.origin_mm) == ((4, 3, 2), (1, 2, 3))


NO_VOLUME_META = {
    "volumes": ({"NDims": 4, "DimSize": "5 2 2 3", "ElementSpacing": "2 3 4 1",
                 "Offset": "1 2 3 0"}, "3 volumes"),
    "channels": ({"DimSize": "5 2 2", "ElementNumberOfChannels": 3}, "3 values a voxel"),
    "scaled twice": ({"TransformMatrix": "2 0 0 0 2 0 0 0 2"}, "lengths .*2.0.* instead of 1"),
    "two origins": ({"Position": "7 2 3"}, r"Offset is \[1.*Position is \[7"),
    "two matrices": ({"Rotation": "1 0 0 0 1 0 0 0 1", "TransformMatrix": "1 0 0 0 -1 0 0 0 1"},
                     "contradicts itself: TransformMatrix"),
    "byte orders": ({"BinaryDataByteOrderMSB": "True", "ElementByteOrderMSB": "False"}, "differ"),
    "negative spacing": ({"ElementSpacing": "2 -3 4"}, "spacing is"),
    "a type": ({"ElementType": "MET_FLOAT_ARRAY"}, "MET_FLOAT_ARRAY"),
    "no size": ({"DimSize": None}, "'DimSize' is ''"),
    "not an image": ({"ObjectType": "Tube"}, "ObjectType is 'Tube'"),
    "tilted in time": ({"NDims": 4, "DimSize": "5 4 3 1", "ElementSpacing": "2 3 4 1",
                        "Offset": "1 2 3 0",
                        "TransformMatrix": "0 0 0 1 0 1 0 0 0 0 1 0 1 0 0 0"}, "its matrix"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_VOLUME_META)
def test_what_is_no_volume_is_refused_in_meta_image(tmp_path, kind):
    fields, message = NO_VOLUME_META[kind]
    with pytest.raises(CaseError, match=f"'a.mha' .*{message}"):
        read(meta_image(tmp_path / "a.mha", **fields))


@pytest.mark.parametrize("axis", "xyz")
@pytest.mark.parametrize("half_rotations", [0, 1])
def test_a_mask_turned_by_45_degrees_is_on_the_grid_of_its_image(tmp_path, axis, half_rotations):
    """The axis nearest to the left is another for 44.9999 degrees than for 45.0001."""
    volumes = []
    for degrees in (44.9999, 45.0001):
        rotation = Rotation.from_euler(axis, degrees, degrees=True).as_matrix() * (-1, -1, 1)
        rotation = (
            Rotation.from_euler("x", 180 * half_rotations, degrees=True).as_matrix() @ rotation
        )
        volumes.append(read(nifti(tmp_path / "a.nii", affine(rotation))))
    image, mask = volumes
    assert image.voxels.shape != mask.voxels.shape
    for ours, theirs in (volumes, volumes[::-1]):
        on_grid = check_same_grid(ours, theirs, "mask")
        np.testing.assert_array_equal(on_grid.voxels, ours.voxels)
        assert on_grid.geometry.shape == ours.geometry.shape
        write(tmp_path / "back.nii", on_grid)
        np.testing.assert_array_equal(nibabel.load(tmp_path / "back.nii").get_fdata(), VOXELS)
    assert check_same_grid(image, image, "itself") is image


@pytest.mark.parametrize("unit", ["cm", "m", "um", "micron"])
@pytest.mark.parametrize("field", ["units", "space units"])
def test_an_nrrd_file_in_another_unit_than_mm_is_refused(tmp_path, field, unit):
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), np.int16)), str(path))
    data = path.read_bytes()
    for written in ("mm", unit):
        line = f'{field}: "{written}" "{written}" "{written}"\n'.encode()
        path.write_bytes(data.replace(b"\n\n", b"\n" + line + b"\n", 1))
        if written == "mm":
            read(path)
        else:
            with pytest.raises(CaseError, match=f"'a.nrrd' has '{field}' {unit}; store"):
                read(path)


@pytest.mark.parametrize(
    ("letter", "encoding"),
    [
        ("\N{MICRO SIGN}", "latin-1"),
        ("\N{MICRO SIGN}", "utf-8"),
        ("\N{GREEK SMALL LETTER MU}", "utf-8"),
    ],
)
def test_micrometres_are_refused_however_their_letter_is_encoded(tmp_path, letter, encoding):
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), np.int16)), str(path))
    line = f'space units: "{letter}m" "{letter}m" "{letter}m"\n'.encode(encoding)
    path.write_bytes(path.read_bytes().replace(b"\n\n", b"\n" + line + b"\n", 1))
    with pytest.raises(CaseError, match=r"'a.nrrd' has 'space units' .*m; store"):
        read(path)


@pytest.mark.parametrize("unit", ["cm", "um", "m"])
def test_a_metaimage_in_another_unit_than_mm_is_refused(tmp_path, unit):
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), np.int16)), str(path))
    data = path.read_bytes()
    for written in ("mm", unit):
        field = f"DistanceUnits = {written}\nElementDataFile".encode()
        path.write_bytes(data.replace(b"ElementDataFile", field, 1))
        if written == "mm":
            read(path)
        else:
            with pytest.raises(CaseError, match=f"'a.mha' has DistanceUnits {unit}; store"):
                read(path)

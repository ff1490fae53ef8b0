import resource
import tempfile

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from liverseg.core.volumes.volume import Geometry, Volume
from liverseg.errors import CaseError, SettingsError, StoreError
from liverseg.imaging.files import check_same_grid, encoded, nifti_bytes, read
from tests.volume_files import write


def image_with(direction, seed=0, shape=(3, 4, 5)):
    """A file as a scanner writes it: voxels (z, y, x) and a direction of any kind."""
    image = sitk.GetImageFromArray(
        np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)
    )
    image.SetSpacing((0.8, 1.25, 6.0))
    image.SetOrigin((-31.5, 12.25, 80.0))
    image.SetDirection(np.asarray(direction).ravel().tolist())
    return image


def value_at(image, point):
    return image.GetPixel(*image.TransformPhysicalPointToIndex(point))


ORIENTATIONS = {
    "axis_aligned": np.eye(3),
    "left-handed": np.diag([1, -1, 1]),
    "upside down": np.diag([-1, -1, -1]),
    "coronal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "oblique by 23 degrees": Rotation.from_euler("x", 23, degrees=True).as_matrix(),
    "oblique and left-handed": Rotation.from_euler("xyz", [11, 23, -7], degrees=True).as_matrix()
    @ np.diag([1, -1, 1]),
}


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", ORIENTATIONS)
def test_reading_and_writing_bring_every_orientation_back(tmp_path, kind, suffix):
    original = image_with(ORIENTATIONS[kind])
    sitk.WriteImage(original, str(tmp_path / f"in{suffix}"))
    volume = read(tmp_path / f"in{suffix}")
    write(tmp_path / f"out{suffix}", volume)
    back = sitk.ReadImage(str(tmp_path / f"out{suffix}"))
    assert back.GetSize() == original.GetSize()
    assert back.GetSpacing() == pytest.approx(original.GetSpacing(), abs=1e-5)
    assert back.GetOrigin() == pytest.approx(original.GetOrigin(), abs=1e-3)
    assert back.GetDirection() == pytest.approx(original.GetDirection(), abs=1e-5)
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(original))


@pytest.mark.parametrize("kind", ORIENTATIONS)
def test_a_volume_is_nearest_to_lps_and_every_voxel_keeps_its_position(tmp_path, kind):
    original = image_with(ORIENTATIONS[kind])
    sitk.WriteImage(original, str(tmp_path / "a.mha"))
    volume = read(tmp_path / "a.mha")
    direction = np.array(volume.geometry.direction).reshape(3, 3)
    assert np.all(np.diag(direction) > 0.7)
    assert volume.voxels.dtype == np.float32
    for z, y, x in [(0, 0, 0), (2, 1, 1), (1, 2, 2)]:
        sz, sy, sx = volume.spacing_mm
        position = np.array(volume.geometry.origin_mm) + direction @ (x * sx, y * sy, z * sz)
        assert volume.voxels[z, y, x] == value_at(original, position.tolist())


def test_names_with_spaces_and_umlauts_work(tmp_path):
    path = tmp_path / "Fälle für später" / "Bild größer.nii.gz"
    path.parent.mkdir()
    sitk.WriteImage(image_with(np.eye(3)), str(path))
    write(path.parent / "Kopie über.nrrd", read(path))
    assert np.array_equal(read(path.parent / "Kopie über.nrrd").voxels, read(path).voxels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted_and_refused(tmp_path, bad):
    voxels = np.zeros((3, 4, 5), np.float32)
    voxels[1, :2, 0] = bad
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "image.nii.gz"))
    with pytest.raises(CaseError, match=r"'image.nii.gz' has 2 voxels that are NaN or infinite"):
        read(tmp_path / "image.nii.gz")


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (1, 1, 4, 5)])
def test_what_is_not_a_volume_is_refused(tmp_path, shape):
    image = sitk.GetImageFromArray(np.zeros(shape, np.int16), isVector=False)
    sitk.WriteImage(image, str(tmp_path / "image.nii.gz"))
    with pytest.raises(CaseError, match=r"'image.nii.gz' is not a volume: it has 5 x 4"):
        read(tmp_path / "image.nii.gz")


def test_colours_are_refused(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "image.mha"))
    with pytest.raises(CaseError, match="has 3 values a voxel"):
        read(tmp_path / "image.mha")


def test_a_missing_file_and_a_file_of_another_kind_are_named(tmp_path):
    with pytest.raises(CaseError, match=r"'image.nii.gz' does not exist"):
        read(tmp_path / "image.nii.gz")
    (tmp_path / "image.nrrd").write_text("no image")
    with pytest.raises(
        CaseError, match=r"'image.nrrd' is not an NRRD file: it begins with b'no image'"
    ):
        read(tmp_path / "image.nrrd")


def geometry(**changes):
    values = {
        "shape": (3, 4, 5),
        "spacing_mm": (6.0, 1.25, 0.8),
        "origin_mm": (1.0, 2.0, 3.0),
        "direction": tuple(np.eye(3).ravel().tolist()),
        "file_axes": (1, 2, 3),
    }
    return Geometry(**(values | changes))


def volume(**changes):
    made = geometry(**changes)
    return Volume(np.zeros(made.shape, bool), made)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (3, 4, 6)}, r"'m' has \(3, 4, 6\) voxels .* image has \(3, 4, 5\)"),
        ({"spacing_mm": (6.0, 1.25, 0.81)}, r"'m' has spacing .*0.81\), the image has .*0.8\)"),
        ({"origin_mm": (1.0, 2.0, 3.1)}, r"'m' has origin .*3.1\), the image has .*3.0\)"),
        (
            {"direction": tuple(ORIENTATIONS["oblique by 23 degrees"].ravel())},
            r"'m' has direction .*0.3907.*, the image has \(1.0, 0.0",
        ),
    ],
)
def test_another_grid_is_refused_with_field_and_both_values(changes, message):
    with pytest.raises(CaseError, match=message):
        check_same_grid(volume(), volume(**changes), "m")


def test_rounding_and_another_stored_orientation_are_the_same_grid():
    other = volume(
        spacing_mm=(6.0005, 1.2499, 0.8), origin_mm=(1.01, 2.0, 3.0), file_axes=(-1, -2, 3)
    )
    check_same_grid(volume(), other, "m")


def test_the_same_volume_gives_the_same_bytes():
    mask = Volume(
        np.random.default_rng(0).random((3, 4, 5)) < 0.5, geometry(file_axes=(-1, -2, -3))
    )
    assert nifti_bytes(mask) == nifti_bytes(mask)


def test_without_a_temporary_folder_a_file_is_written_where_no_folder_is_yet(tmp_path, monkeypatch):
    """As on a root file system that is read-only: the output's rights were tried long before."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))
    path = tmp_path / "results" / "new" / "mask.nii.gz"
    assert encoded(path, volume()) == nifti_bytes(volume())
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(SettingsError, match=r"must be one of .nii.gz, .nii, .nrrd, .mha"):
        write(tmp_path / "seg.png", volume())


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_disk_that_fills_up_is_noticed_and_leaves_nothing_behind(tmp_path, suffix):
    voxels = np.random.default_rng(0).random((8, 60, 50)).astype(np.float32)
    noise = Volume(voxels, geometry(shape=voxels.shape))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(StoreError, match="cannot write"):
            write(tmp_path / f"probability{suffix}", noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []

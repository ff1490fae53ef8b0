import struct
from hashlib import sha256

import numpy as np
import pytest
import SimpleITK as sitk

from liverseg.errors import CaseError, StoreError
from liverseg.imaging.files import decode, read
from liverseg.imaging.integrity import check_complete
from liverseg.imaging.stored_file import data_file, load


@pytest.fixture
def image():
    return sitk.GetImageFromArray(np.random.default_rng(0).random((6, 40, 30)).astype(np.float32))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("missing", [20, 1_000, 15_000])
def test_a_truncated_file_is_refused_by_name(tmp_path, image, suffix, missing):
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path), useCompression=True)
    check_complete(load(path))
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(CaseError, match=f"'image{suffix}'"):
        read(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_itk_itself_reads_a_truncated_nifti_file(tmp_path, image, suffix):
    """The reason for this module; once ITK refuses such a file it can go."""
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path), useCompression=True)
    path.write_bytes(path.read_bytes()[:-1_000])
    sitk.ReadImage(str(path))


def test_a_gzip_file_without_its_last_byte_is_refused(tmp_path, image):
    path = tmp_path / "image.nii.gz"
    sitk.WriteImage(image, str(path))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CaseError, match=r"'image.nii.gz' is truncated or damaged"):
        read(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_damaged_compressed_file_is_refused(tmp_path, image, suffix):
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path), useCompression=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CaseError, match=f"'image{suffix}'"):
        read(path)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "image.nii"
    path.touch()
    with pytest.raises(CaseError, match=r"'image.nii' is truncated or damaged"):
        read(path)


def test_a_big_endian_header_is_understood(tmp_path, image):
    path = tmp_path / "image.nii"
    sitk.WriteImage(image, str(path))
    data = path.read_bytes()
    swapped = bytearray(data)
    swapped[0:4] = data[0:4][::-1]
    for start in range(40, 56, 2):
        swapped[start : start + 2] = data[start : start + 2][::-1]
    swapped[72:74] = data[72:74][::-1]
    swapped[108:112] = data[108:112][::-1]
    path.write_bytes(swapped)
    check_complete(load(path))
    path.write_bytes(swapped[:-1])
    with pytest.raises(CaseError, match="truncated"):
        check_complete(load(path))


def test_the_voxels_of_an_mhd_header_lie_in_the_file_that_it_names(tmp_path, image):
    sitk.WriteImage(image, str(tmp_path / "image.mhd"))
    assert data_file(tmp_path / "image.mhd") == tmp_path / "image.raw"
    sitk.WriteImage(image, str(tmp_path / "image.mha"))
    assert data_file(tmp_path / "image.mha") is None


def test_voxels_spread_over_several_files_are_refused(tmp_path):
    (tmp_path / "image.mhd").write_text("NDims = 3\nElementDataFile = LIST\na.raw\nb.raw\n")
    with pytest.raises(CaseError, match="several files"):
        data_file(tmp_path / "image.mhd")


def test_what_is_decoded_is_what_was_hashed_even_if_the_file_changes(tmp_path, image):
    path = tmp_path / "image.nii.gz"
    sitk.WriteImage(image, str(path))
    file, digest = load(path), sha256(path.read_bytes()).hexdigest()
    sitk.WriteImage(image + 1, str(path))
    assert file.sha256 == digest
    np.testing.assert_array_equal(decode(file).voxels, sitk.GetArrayFromImage(image))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_detached_header_finds_its_voxels(tmp_path, image, suffix, compressed):
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path), useCompression=compressed)
    path = path.rename(path.with_suffix({".nhdr": ".nrrd"}.get(suffix, suffix)))
    (beside,) = (p for p in tmp_path.iterdir() if p != path)
    np.testing.assert_array_equal(read(path).voxels, sitk.GetArrayFromImage(image))
    bytes_of_both = path.read_bytes() + beside.read_bytes()
    assert load(path).sha256 == sha256(bytes_of_both).hexdigest()
    beside.unlink()
    with pytest.raises(CaseError, match=f"'{path.name}' says that '.*{beside.name}' holds its vox"):
        read(path)


@pytest.mark.parametrize("offset", [352, 353, 360, (1 << 20) + 3, 3 << 20])
def test_voxels_that_are_no_numbers_are_counted_wherever_they_begin(tmp_path, offset):
    voxels = np.zeros((4, 400, 400), np.float64)  # several megabytes, so that chunks cut voxels
    voxels[0, 0, 0] = voxels[1, 200, 100] = voxels[3, 399, 399] = np.nan
    path = tmp_path / "image.nii"
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    data = bytearray(path.read_bytes())
    data[108:112] = struct.pack("<f", offset)
    path.write_bytes(data[:352] + bytes(offset - 352) + data[352:])
    assert check_complete(load(path)) == 3


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), -8.0, 1e30])
def test_an_impossible_offset_of_the_voxels_is_refused(tmp_path, image, offset):
    path = tmp_path / "image.nii"
    sitk.WriteImage(image, str(path))
    data = bytearray(path.read_bytes())
    data[108:112] = struct.pack("<f", offset)
    path.write_bytes(data)
    with pytest.raises(CaseError, match=r"'image.nii'"):
        read(path)


def test_no_room_for_temporary_files_is_not_the_case_s_fault(tmp_path, image, monkeypatch):
    sitk.WriteImage(image, str(tmp_path / "image.nii"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no-such-folder"))
    with pytest.raises(StoreError, match=r"cannot unpack 'image.nii' .*no-such-folder.*TMPDIR"):
        read(tmp_path / "image.nii")

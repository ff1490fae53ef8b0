import gzip
import re
import struct
import tracemalloc
from hashlib import sha256

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from liverseg.errors import CaseError
from liverseg.imaging.files import decode, read
from liverseg.imaging.stored_file import data_file, load


@pytest.fixture
def image():
    return sitk.GetImageFromArray(np.random.default_rng(0).random((6, 40, 30)).astype(np.float32))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("missing", [20, 1_000, 15_000])
def test_a_truncated_file_is_refused_by_name(tmp_path, image, suffix, missing):
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path), useCompression=True)
    read(path)
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(CaseError, match=f"'image{suffix}'"):
        read(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_itk_itself_reads_a_truncated_nifti_file(tmp_path, image, suffix):
    """One reason why ITK reads no file; it would fill in whatever lay in memory."""
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path), useCompression=True)
    path.write_bytes(path.read_bytes()[:-1_000])
    sitk.ReadImage(str(path))


def test_a_gzip_file_without_its_last_byte_is_refused(tmp_path, image):
    path = tmp_path / "image.nii.gz"
    sitk.WriteImage(image, str(path))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CaseError, match=r"'image.nii.gz' is truncated"):
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
    with pytest.raises(CaseError, match=r"'image.nii' is empty"):
        read(path)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_every_kind_of_nifti_file_is_read_whole_or_not_at_all(tmp_path, kind, endian, suffix):
    path = tmp_path / f"image{suffix}"
    voxels = np.random.default_rng(0).integers(-900, 900, (7, 6, 5)).astype(endian + "i2")
    header = kind.header_class(endianness=endian)
    nibabel.save(kind(voxels, np.diag([-2.0, -1.5, 4.0, 1.0]), header), path)
    volume = read(path)
    assert volume.spacing_mm == (4.0, 1.5, 2.0)
    np.testing.assert_array_equal(volume.voxels, voxels.T)
    data = path.read_bytes() if suffix == ".nii" else gzip.decompress(path.read_bytes())
    for changed, message in ((data[:-1], "truncated"), (data + b"\0", "after its|more bytes")):
        path.write_bytes(changed if suffix == ".nii" else gzip.compress(changed))
        with pytest.raises(CaseError, match=f"'image{suffix}' .*({message})"):
            read(path)


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
    with pytest.raises(CaseError, match=f"'{path.name}' .* raw file {beside.name} is missing"):
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
    with pytest.raises(CaseError, match=r"'image.nii' has 3 voxels that are NaN or infinite"):
        read(path)


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), -8.0, 1e30])
def test_an_impossible_offset_of_the_voxels_is_refused(tmp_path, image, offset):
    path = tmp_path / "image.nii"
    sitk.WriteImage(image, str(path))
    data = bytearray(path.read_bytes())
    data[108:112] = struct.pack("<f", offset)
    path.write_bytes(data)
    with pytest.raises(CaseError, match=r"'image.nii'"):
        read(path)


@pytest.mark.parametrize("change", [-4800, -4, -1, 1, 64])
@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".mhd"])
def test_missing_and_additional_bytes_of_voxels_are_counted(tmp_path, image, suffix, change):
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path))
    whole = sitk.GetArrayFromImage(image).tobytes()
    holder = data_file(path) or path
    header = holder.read_bytes().removesuffix(whole)
    holder.write_bytes(header + (whole + b"\xff" * 64)[: len(whole) + change])
    said = (
        f"is truncated: {len(whole) + change} bytes of voxels instead of {len(whole)}"
        if change < 0
        else f"has {change} bytes after its {len(whole)} bytes of voxels"
    )
    with pytest.raises(CaseError, match=f"'image{suffix}' {said}"):
        read(path)
    holder.write_bytes(header + whole)
    np.testing.assert_array_equal(read(path).voxels, sitk.GetArrayFromImage(image))


@pytest.mark.parametrize("rest", [b"\0", b"\0" * 512, b"garbage", b"\x1f\x8bgarbage", b"\x1f"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_bytes_after_compressed_voxels_are_refused(tmp_path, image, suffix, rest):
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path), useCompression=True)
    path.write_bytes(path.read_bytes() + rest)
    said = "is |has" if rest[:1] == b"\x1f" else f"has {len(rest)} bytes after"
    with pytest.raises(CaseError, match=f"'image{suffix}' ({said})"):
        read(path)


def test_several_gzip_streams_are_one_file(tmp_path, image):
    """As bgzip writes them."""
    path = tmp_path / "image.nii.gz"
    sitk.WriteImage(image, str(path))
    data = gzip.decompress(path.read_bytes())
    parts = [data[i : i + 5000] for i in range(0, len(data), 5000)]
    path.write_bytes(b"".join(map(gzip.compress, [*parts, b""])))
    np.testing.assert_array_equal(read(path).voxels, sitk.GetArrayFromImage(image))


def test_numbers_written_as_text_are_read(tmp_path):
    (tmp_path / "a.nrrd").write_text(
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: ascii\n\n1 2 3 4\n5 6 7 -8\n"
    )
    assert read(tmp_path / "a.nrrd").voxels.ravel().tolist() == [1, 2, 3, 4, 5, 6, 7, -8]
    text = (tmp_path / "a.nrrd").read_text()
    for old, new in (("-8", "-8 9"), (" -8", ""), ("-8", "x"), ("-8", "70000"), ("-8", "0.5")):
        (tmp_path / "a.nrrd").write_text(text.replace(old, new))
        with pytest.raises(CaseError, match=r"'a.nrrd'"):
            read(tmp_path / "a.nrrd")


def announced(path, size):
    """Change the size that a file's header announces, and nothing else."""
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        data = bytearray(gzip.decompress(data))
    if ".nii" in path.name:
        data = bytearray(data)
        struct.pack_into("<4h", data, 40, 3, *size)
    else:
        old = b"30 40 6"
        assert data.count(old) == 1
        data = data.replace(old, " ".join(map(str, size)).encode())
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)


@pytest.mark.parametrize("size", [(30, 40, 7), (600, 600, 700), (10_000, 10_000, 10_000)])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_header_that_announces_too_much_allocates_nothing(
    tmp_path, image, suffix, compressed, size
):
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path), useCompression=compressed)
    announced(path, size)
    file = load(path)
    tracemalloc.start()
    with pytest.raises(CaseError, match=f"'image{suffix}' .*(truncated|more than|{size[0]})"):
        decode(file)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_gzip_bomb_is_unpacked_no_further_than_announced(tmp_path, image, suffix):
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path), useCompression=True)
    whole = sitk.GetArrayFromImage(image).tobytes()
    header = path.read_bytes()
    if suffix == ".nii.gz":
        path.write_bytes(gzip.compress(gzip.decompress(header)[:352] + whole + bytes(200 << 20)))
    else:
        begin = header.index(b"\n\n") + 2 if suffix == ".nrrd" else header.index(b"LOCAL\n") + 6
        bomb = gzip.compress(whole + bytes(200 << 20))
        announced_size = re.compile(rb"^CompressedDataSize = .*\n", re.M)
        path.write_bytes(announced_size.sub(b"", header[:begin]) + bomb)
    file = load(path)
    tracemalloc.start()
    with pytest.raises(CaseError, match=f"'image{suffix}' has more bytes than the {len(whole)} of"):
        decode(file)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize(("change", "said"), [(-1, "has 1 bytes after"), (1, "is truncated")])
def test_a_meta_image_has_as_many_compressed_bytes_as_it_announces(tmp_path, image, change, said):
    """ITK reads as many as announced, and makes up the voxels that these do not give."""
    path = tmp_path / "image.mha"
    sitk.WriteImage(image, str(path), useCompression=True)
    data = path.read_bytes()
    size = re.search(rb"CompressedDataSize = (\d+)", data)
    new = b"CompressedDataSize = %d" % (int(size[1]) + change)
    path.write_bytes(data.replace(size[0], new))
    with pytest.raises(CaseError, match=f"'image.mha' {said}.*bytes of compressed voxels"):
        read(path)


def test_a_header_may_lie_in_several_members_of_a_gzip_file(tmp_path):
    voxels = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1, -1, 1, 1])), tmp_path / "a.nii")
    data = (tmp_path / "a.nii").read_bytes()
    packed = b"".join(gzip.compress(part) for part in (data[:100], data[100:300], data[300:]))
    (tmp_path / "a.nii.gz").write_bytes(packed)
    np.testing.assert_array_equal(read(tmp_path / "a.nii.gz").voxels, voxels.T)


def test_numbers_of_64_bits_are_scaled_with_64_bits(tmp_path):
    voxels = np.full((5, 4, 3), 2.0**25 + 1)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<ff", data, 112, 1, -(2.0**25))  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(data)
    assert (read(tmp_path / "a.nii").voxels == 1).all()

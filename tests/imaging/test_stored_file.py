"""Which file is read, and what is said of one that cannot be."""

import gzip
import os
import resource
import socket
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from liverseg.core.volumes.volume import Geometry, Volume
from liverseg.errors import CaseError, SettingsError
from liverseg.imaging.files import read, voxels_of
from liverseg.imaging.stored_file import data_file
from liverseg.imaging.suffixes import SUFFIXES, WRITABLE_SUFFIXES, stem_of, suffix_of
from tests.volume_files import write

SHAPE = (3, 4, 5)
GEOMETRY = Geometry(SHAPE, (6.0, 1.25, 0.8), (1.0, 2.0, 3.0), tuple(np.eye(3).ravel()), (1, 2, 3))


def volume(value, shape=SHAPE):
    return Volume(np.full(shape, value, np.int16), GEOMETRY)


def in_capitals(suffix):
    return [suffix.upper(), suffix.title(), suffix[:-1] + suffix[-1].upper()]


SPELLINGS = [(suffix, other) for suffix in SUFFIXES for other in in_capitals(suffix)]


def written(path, suffix):
    """A file of a format, with any spelling of its suffix and its voxels beside it if need be."""
    plain = path.with_name(f"plain{suffix}")
    sitk.WriteImage(sitk.GetImageFromArray(volume(7).voxels), str(plain), useCompression=True)
    return plain.rename(path)


@pytest.mark.parametrize(("suffix", "spelling"), SPELLINGS)
def test_capital_letters_in_a_suffix_change_nothing(tmp_path, suffix, spelling):
    path = written(tmp_path / f"image{spelling}", suffix)
    assert suffix_of(path) == suffix
    assert stem_of(path) == "image"
    assert (read(path).voxels == 7).all()
    assert voxels_of(path) == 60
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CaseError, match=f"'image{spelling}'"):
        read(path)


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_a_suffix_in_capital_letters_is_written(tmp_path, suffix):
    path = tmp_path / f"out{suffix.upper()}"
    write(path, volume(5))
    assert list(tmp_path.iterdir()) == [path]
    assert (read(path).voxels == 5).all()


BESIDE = [
    (asked, beside)
    for asked in (".nii.gz", ".nii")
    for beside in (".nii.gz", ".nii", ".NII", ".hdr", ".img", ".nii.GZ")
    if asked != beside
]


@pytest.mark.parametrize(("asked", "beside"), BESIDE)
def test_the_file_that_was_named_is_read_whatever_lies_beside_it(tmp_path, asked, beside):
    """ITK reads A.nii when asked for A.nii.gz."""
    path, other = tmp_path / f"A{asked}", tmp_path / f"A{beside}"
    write(path, volume(1))
    write(tmp_path / "other.nii", Volume(np.zeros((6, 8, 10), np.int16), GEOMETRY))
    (tmp_path / "other.nii").rename(other)
    assert (read(path).voxels == 1).all()
    assert voxels_of(path) == 60


@pytest.mark.parametrize("name", ["x.hdr", "x.img", "X.HDR", "x.img.gz", "x.png", "x", "x.gz"])
def test_a_format_that_is_not_checked_is_not_read(tmp_path, name):
    nibabel.save(nibabel.Nifti1Pair(volume(1).voxels, np.eye(4)), tmp_path / "pair.hdr")
    (tmp_path / "pair.hdr").rename(tmp_path / name)
    with pytest.raises(CaseError, match=f"'{name}' is .* a format that is not read; save it as"):
        read(tmp_path / name)
    assert voxels_of(tmp_path / name) == 0


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
CONTENTS = {
    "empty": (b"", "is empty"),
    "annex": (b"/annex/objects/MD5E-s1--0.nii.gz\n", "was not downloaded: it is a git-annex"),
    "annex, relative": (b"../../.git/annex/objects/x/y/MD5E-s1--0\n", "was not downloaded"),
    "LFS": (LFS, "was not downloaded: it is a Git LFS pointer; fetch it with `git lfs pull`"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", CONTENTS)
def test_a_file_without_content_says_what_it_is(tmp_path, kind, suffix):
    content, message = CONTENTS[kind]
    path = tmp_path / f"image{suffix}"
    path.write_bytes(content)
    with pytest.raises(CaseError, match=f"'image{suffix}' {message}"):
        read(path)


def test_a_file_with_voxels_may_mention_where_it_came_from(tmp_path):
    image = nibabel.Nifti1Image(np.ones((20, 20, 20), np.uint8), np.eye(4))
    image.header["descrip"] = b"copied from .git/annex/objects/x/y"
    nibabel.save(image, tmp_path / "image.nii")
    assert (read(tmp_path / "image.nii").voxels == 1).all()


@pytest.mark.parametrize("content", [b"\\\1\0\0", b"<!DOCTYPE html>", b"PK\3\4", b"\0" * 400, b"x"])
def test_a_nii_gz_file_that_is_not_compressed_says_so(tmp_path, content):
    (tmp_path / "image.nii.gz").write_bytes(content)
    message = r"'image.nii.gz' is not gzip-compressed although its name ends with .nii.gz"
    with pytest.raises(CaseError, match=message):
        read(tmp_path / "image.nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".mhd"])
def test_a_compressed_file_whose_name_does_not_say_so_is_named(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    written(path, suffix)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(CaseError, match=f"is gzip-compressed although its name ends with {suffix}"):
        read(path)


OTHERS = {".nii": "a NIfTI", ".nii.gz": "a NIfTI", ".nrrd": "an NRRD", ".mha": "a MetaImage",
          ".mhd": "a MetaImage"}  # fmt: skip


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html>\n<html>", b"\x89PNG\r\n\x1a\n\0\0", b"\xff" * 600]
)
@pytest.mark.parametrize("suffix", OTHERS)
def test_a_file_of_another_kind_says_of_which_it_is_not(tmp_path, suffix, content):
    path = tmp_path / f"image{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with pytest.raises(CaseError, match=f"'image{suffix}' is not {OTHERS[suffix]} file"):
        read(path)


def test_links_folders_and_files_that_are_not_there_are_distinguished(tmp_path, monkeypatch):
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "annex.nii").symlink_to(".git/annex/objects/aa/bb/MD5E-s1--0")
    (tmp_path / "link.nii").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "device.nii").symlink_to("/dev/null")
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 108 characters
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("socket.nii")
    listening.close()
    for name, message in {
        "folder.nii.gz": "is a folder; give the file in it",
        "annex.nii": "was not downloaded: it is a git-annex link; .* `git annex get`",
        "link.nii": "is a link to 'nowhere', which does not exist",
        "pipe.nii": "is not a regular file, but a pipe; copy its content into one",
        "device.nii": "is not a regular file, but a device",
        "socket.nii": "is not a regular file, but a socket",
        "absent.nii": f"does not exist in '{tmp_path}'",
        "x" * 300 + ".nii": "does not exist",
    }.items():
        with pytest.raises(CaseError, match=f"'{name}' {message}"):
            read(tmp_path / name)
    write(tmp_path / "real.nii", volume(3))
    (tmp_path / "good.nii").symlink_to("real.nii")
    assert (read(tmp_path / "good.nii").voxels == 3).all()


HEADER = "ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementType = MET_SHORT\n"
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nendian: little\nencoding: raw\n"


def test_a_raw_file_that_is_a_pipe_is_named(tmp_path):
    os.mkfifo(tmp_path / "voxels.raw")
    (tmp_path / "a.mhd").write_text(f"{HEADER}ElementDataFile = voxels.raw\n")
    (tmp_path / "a.nrrd").write_text(f"{NRRD}data file: voxels.raw\n")
    for path in (tmp_path / "a.mhd", tmp_path / "a.nrrd"):
        message = f"'{path.name}' cannot be read: 'voxels.raw' is not a regular file, but a pipe"
        with pytest.raises(CaseError, match=message):
            read(path)


NAMES = ["elsewhere.raw", "no such folder/elsewhere.raw", "elsewhere" * 60, "else\xe9where.raw"]


@pytest.mark.parametrize("name", NAMES)
def test_a_raw_file_that_is_gone_is_named(tmp_path, name):
    (tmp_path / "a.mhd").write_bytes(f"{HEADER}ElementDataFile = {name}\n".encode("latin-1"))
    (tmp_path / "a.nrrd").write_bytes(f"{NRRD}data file: {name}\n".encode("latin-1"))
    for path in (tmp_path / "a.mhd", tmp_path / "a.nrrd"):
        with pytest.raises(
            CaseError, match=f"'{path.name}' .* its raw file else.* is missing in"
        ) as e:
            read(path)
        str(e.value).encode("utf-8")
        (tmp_path / "elsewhere.raw").mkdir(exist_ok=True)


def test_a_raw_file_that_no_file_can_be_called_is_damage(tmp_path):
    (tmp_path / "a.mhd").write_text(f"{HEADER}ElementDataFile = voxels\0.raw\n")
    (tmp_path / "a.nrrd").write_text(f"{NRRD}data file: voxels\0.raw\n")
    for path in (tmp_path / "a.mhd", tmp_path / "a.nrrd"):
        for reading in (read, data_file):
            with pytest.raises(CaseError, match=rf"'{path.name}' is damaged: .*voxels\\x00"):
                reading(path)


@pytest.mark.parametrize(
    ("suffix", "skip"), [(".mhd", "HeaderSize = {}\n"), (".nrrd", "byte skip: {}\n")]
)
@pytest.mark.parametrize("bytes_before", [0, 17])
def test_a_raw_file_may_have_a_header_of_its_own(tmp_path, suffix, skip, bytes_before):
    voxels = np.arange(60, dtype="<i2")
    (tmp_path / "a.raw").write_bytes(b"x" * bytes_before + voxels.tobytes())
    path = tmp_path / f"a{suffix}"
    start, name = (HEADER, "ElementDataFile =") if suffix == ".mhd" else (NRRD, "data file:")
    for said in (bytes_before, -1):
        path.write_text(f"{start}{skip.format(said)}{name} a.raw\n")
        assert read(path).voxels.ravel().tolist() == list(range(60))
    path.write_text(f"{start}{skip.format(bytes_before + 1)}{name} a.raw\n")
    with pytest.raises(CaseError, match="truncated"):
        read(path)
    path.write_text(f"{start}{skip.format(-2)}{name} a.raw\n")
    with pytest.raises(CaseError, match="skips"):
        read(path)


def limited_memory(megabytes):
    """Return the address space of this process, and lower its limit to a few megabytes more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (now, before[1]))
    return before


@pytest.mark.parametrize("megabytes", [10, 100, 200])
def test_a_volume_that_does_not_fit_into_memory_is_named(tmp_path, megabytes):
    """60 MB of voxels: the first copy is too much, or a later one."""
    path = tmp_path / "large.nii"
    header = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).header
    header["dim"][1:4], header["magic"], header["vox_offset"] = (300, 500, 200), b"n+1", 352
    path.write_bytes(header.binaryblock)
    os.truncate(path, 352 + 2 * 300 * 500 * 200)
    before = limited_memory(megabytes)
    try:
        with pytest.raises(CaseError, match=r"'large.nii' .*memory"):
            read(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_name_that_itk_cannot_open_is_refused_before_it_ends_the_process(tmp_path):
    path = tmp_path / os.fsdecode(b"Leber_\xe4.nii.gz")
    with pytest.raises(SettingsError, match=r"cannot write '.*Leber_.*': its name is not UTF-8"):
        write(path, volume(1))
    write(tmp_path / "a.nii.gz", volume(1))
    (tmp_path / "a.nii.gz").rename(path)
    assert (read(path).voxels == 1).all()

"""Damaged files are refused by name, or read exactly as another reader reads them.

The files are read in processes of their own, so that a crash, a hang or too much memory is a
failure of one file. Run as a program with a folder and seeds, this module is such a process.
"""

import gzip
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from liverseg.errors import CaseError
from liverseg.imaging.files import read

FILES, PROCESSES = 300, 2
SECONDS, LARGEST_MB = 30, 2000
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
NUMBERS = [b"-1", b"0", b"1", b"2", b"4.5", b"1e999", b"nan", b"-inf", b"99999999999", b"", b"x",
           b"1" * 400, b"2147483648", b"\xff\xfe"]  # fmt: skip
EXTREMES = [0, 1, -1, 2, 127, 255, 32767, -32768, 2**31 - 1, 2**63 - 1, 3, 4, 16, 1024]


def sound(path: Path, seed: int) -> None:
    """Write a sound file of one of several types, orientations and encodings."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 9, 3).tolist())
    dtype = [np.uint8, np.int16, np.float32, np.float64, np.uint16][seed % 5]
    voxels = rng.integers(0, 250, shape).astype(dtype)
    rotation = Rotation.from_euler("xyz", rng.uniform(-30, 30, 3), degrees=True).as_matrix()
    if path.name.endswith((".nii", ".nii.gz")):
        kind = nibabel.Nifti2Image if seed % 3 == 0 else nibabel.Nifti1Image
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = rotation * (-0.8, -1.25, 6), rng.uniform(-99, 99, 3)
        image = kind(voxels, affine, kind.header_class(endianness="<>"[seed % 2]))
        image.set_qform(affine, seed % 2)
        image.set_data_dtype(dtype)
        nibabel.save(image, path)
        return
    image = sitk.GetImageFromArray(voxels)
    image.SetDirection(rotation.ravel().tolist())
    image.SetSpacing((0.8, 1.25, 6.0))
    sitk.WriteImage(image, str(path), useCompression=bool(seed % 2))


def mutated(data: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Return the bytes of a file after one to three things have happened to them."""
    packed = suffix == ".nii.gz" and rng.random() < 0.8
    if packed:
        data = gzip.decompress(data)
    for _ in range(rng.integers(1, 3)):
        data = CHANGES[rng.integers(len(CHANGES))](data, suffix, rng)
    return gzip.compress(data, 1) if packed else data


def header_length(data: bytes, suffix: str) -> int:
    end = {".nrrd": b"\n\n", ".mha": b"LOCAL\n"}.get(suffix)
    return 352 if end is None else data.find(end) + len(end)


def some_bytes(data: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Replace up to eight bytes, of the header as often as of the voxels."""
    changed = bytearray(data)
    reach = header_length(data, suffix) if rng.random() < 0.5 else len(data)
    for at in rng.integers(0, max(1, min(reach, len(data))), rng.integers(1, 9)):
        changed[at : at + 1] = bytes([rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])])
    return bytes(changed)


def one_field(data: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Put an extreme number into a place of the header, aligned as fields are."""
    if suffix in (".nrrd", ".mha"):
        header, rest = data[: (n := header_length(data, suffix))], data[n:]
        number = list(re.finditer(rb"-?[0-9.]+", header))
        if not number:
            return data
        at = number[rng.integers(len(number))]
        new = NUMBERS[rng.integers(len(NUMBERS))]
        return header[: at.start()] + new + header[at.end() :] + rest
    changed = bytearray(data)
    form = "hifqd"[rng.integers(5)]
    at = int(rng.integers(0, 536 // struct.calcsize(form))) * struct.calcsize(form)
    value = EXTREMES[rng.integers(len(EXTREMES))]
    limit = 8 * struct.calcsize(form) - 1
    if form in "hiq":
        value = max(-(2**limit), min(value, 2**limit - 1))
    elif rng.random() < 0.4:
        value = [np.nan, np.inf, 1e30, 1e-30][rng.integers(4)]
    struct.pack_into("<>"[rng.integers(2)] + form, changed, min(at, len(data) - 8), value)
    return bytes(changed)


def one_line(data: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Remove, double, move or cut a line of a text header; cut or double bytes of others."""
    if suffix not in (".nrrd", ".mha"):
        at, size = (int(n) for n in rng.integers(0, len(data), 2))
        return data[:at] + data[at + size % 64 :]
    header, rest = data[: (n := header_length(data, suffix))], data[n:]
    lines = header.splitlines(keepends=True)
    at = int(rng.integers(len(lines)))
    match rng.integers(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[at])
        case 2:
            lines.insert(int(rng.integers(len(lines))), lines.pop(at))
        case _:
            lines[at] = lines[at][: len(lines[at]) // 2] + b"\n"
    return b"".join(lines) + rest


def length(data: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Cut the end off, or add to it."""
    by = int(rng.integers(1, 200))
    if rng.random() < 0.7:
        return data[:-by] or b"\0"
    return data + rng.bytes(by)


CHANGES = (some_bytes, some_bytes, one_field, one_field, one_field, one_line, length)


def independently(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels (z, y, x) and the 3 x 4 matrix to LPS, nearest to LPS, by another reader."""
    if path.name.endswith((".nii", ".nii.gz")):
        image = nibabel.load(path)
        affine = image.affine
        data = np.asanyarray(image.dataobj).astype(np.float32)
        data = data.reshape(data.shape[:3])
        image = nibabel.as_closest_canonical(nibabel.Nifti1Image(data, affine))
        flip = np.diag([-1, -1, 1, 1.0])
        flip[:2, 3] = np.array(image.shape[:2]) - 1
        to_lps = np.diag([-1, -1, 1, 1]) @ image.affine @ flip
        return image.get_fdata(dtype=np.float32)[::-1, ::-1].T, to_lps[:3]
    image = sitk.ReadImage(str(path))
    while image.GetDimension() > 3:
        image = image[..., 0]
    image = sitk.DICOMOrient(image, "LPS")
    steps = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    voxels = sitk.GetArrayFromImage(sitk.Cast(image, sitk.sitkFloat32))
    return voxels, np.column_stack([steps, image.GetOrigin()])


def outcome(path: Path, original: tuple[np.ndarray, np.ndarray]) -> str:
    """Return "refused", "read", or what is wrong.

    Right is what another reader reads, or what was there before the damage.
    """
    try:
        volume = read(path)
    except CaseError as error:
        return "refused" if f"'{path.name}'" in str(error) else f"unnamed: {error}"
    geometry = volume.geometry
    steps = np.reshape(geometry.direction, (3, 3)) * geometry.spacing_mm[::-1]
    ours = volume.voxels, np.column_stack([steps, geometry.origin_mm])
    if difference(ours, original) == "":
        return "read"
    return difference(ours, independently(path)) or "read"


def difference(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> str:
    if ours[0].shape != theirs[0].shape or not np.array_equal(ours[0], theirs[0]):
        return "other voxels than another reader's"
    if not np.allclose(ours[1], theirs[1], rtol=1e-4, atol=1e-3):
        return "another grid than another reader's"
    return ""


def say(value: str | float) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main(folder: Path, seeds: range) -> None:
    """Print a line of JSON for each file: its name and outcome, and last the memory needed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for seed in seeds:
        suffix = SUFFIXES[seed % len(SUFFIXES)]
        path = folder / f"file{seed}{suffix}"
        sound(path, seed)
        original = independently(path)
        path.write_bytes(mutated(path.read_bytes(), suffix, np.random.default_rng(seed)))
        say(path.name)
        signal.alarm(SECONDS)
        try:
            said = outcome(path, original)
        except Exception as error:  # noqa: BLE001  # what it is decides the test
            said = f"{type(error).__name__}: {error}"
        signal.alarm(0)
        say(said)
    say(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@pytest.mark.slow
def test_damaged_files_are_refused_by_name_or_read_as_by_another_reader(tmp_path):
    share = FILES // PROCESSES
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path), str(first), str(first + share)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for first in range(0, FILES, share)
    ]
    outcomes = {}
    for process in running:
        out, err = process.communicate()
        lines = [json.loads(line) for line in out.splitlines()]
        assert process.returncode == 0, f"{lines[-1:]} ended its process: {err[-2000:]}"
        outcomes |= dict(zip(lines[:-1:2], lines[1:-1:2], strict=True))
        assert lines[-1] < LARGEST_MB
    wrong = {name: said for name, said in outcomes.items() if said not in ("refused", "read")}
    assert wrong == {}
    assert len(outcomes) == FILES
    counts = {said: list(outcomes.values()).count(said) for said in ("refused", "read")}
    assert min(counts.values()) > FILES // 10, counts


if __name__ == "__main__":
    main(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])))

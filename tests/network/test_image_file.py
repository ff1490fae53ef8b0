"""The images of a sampler are in one temporary file, and not in memory of the process."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from liverseg.network.image_file import append, image_file, mapped

SMALL_DISK_KIB = 256


def test_what_is_appended_is_viewed_whatever_its_layout() -> None:
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((9, 11, 13), dtype=np.float32)
    images = [whole, whole[1:4, ::2, 3:], whole.transpose(2, 0, 1), whole[:1, :1, :1]]
    with image_file() as file:
        stored = [append(file, image) for image in images]
        values = mapped(file)
    for image, part in zip(images, stored, strict=True):
        np.testing.assert_array_equal(part.view(values), image)
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 0


def test_many_images_take_one_descriptor_and_no_memory_of_the_process() -> None:
    image = np.ones((16, 256, 256), np.float32)  # 4 MiB
    private, open_files = _anonymous_kib(), _descriptors()
    with image_file() as file:
        for _ in range(30):
            append(file, image)
        values = mapped(file)
    assert float(values.sum()) == 30 * image.size
    assert _descriptors() == open_files + 1
    assert _anonymous_kib() - private < 2 * image.nbytes / 1024


def test_a_full_disk_names_the_folder_and_how_to_use_another(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    image = np.ones((1, 50, 1000), np.float32)  # 200 kB
    with image_file() as file:
        append(file, image)
        with pytest.raises(OSError, match=r"at 400 kB of images.*TMPDIR") as full:
            append(file, image)
    assert full.value.filename == str(small_disk)


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _anonymous_kib() -> int:
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in s)
    return int(line.split()[1])

"""Outputs that must not or cannot be written are refused before anything is read."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from liverseg.errors import SettingsError, StoreError
from liverseg.steps.outputs import Output, check_apart, check_outputs, check_outside
from liverseg.storage.folder import FolderStore
from liverseg.storage.memory import MemoryStore

NOBODY = 65534


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "image.nii.gz"
    path.parent.mkdir()
    path.write_bytes(b"voxels")
    return path


def itself(image: Path) -> Path:
    return image


def relative(image: Path) -> Path:
    return Path(os.path.relpath(image))


def through_a_parent(image: Path) -> Path:
    return image.parent / ".." / image.parent.name / image.name


def link(image: Path) -> Path:
    path = image.with_name("link.nii.gz")
    path.symlink_to(image.name)
    return path


def link_of_a_link(image: Path) -> Path:
    path = image.with_name("link2.nii.gz")
    path.symlink_to(link(image))
    return path


def hard_link(image: Path) -> Path:
    path = image.with_name("hard.nii.gz")
    path.hardlink_to(image)
    return path


def linked_folder(image: Path) -> Path:
    image.parent.with_name("folder").symlink_to(image.parent)
    return image.parent.with_name("folder") / image.name


@pytest.mark.parametrize(
    "named",
    [itself, relative, through_a_parent, link, link_of_a_link, hard_link, linked_folder],
    ids=lambda named: named.__name__,
)
def test_an_input_by_any_name_is_no_output(image, named: Callable[[Path], Path]) -> None:
    out = named(image)
    with pytest.raises(SettingsError, match=rf"--out '{out}' is the same file as .*, an input"):
        check_outputs([Output("--out", out)], [image])
    # The other way round: the input is named by a link, the output by its own name.
    with pytest.raises(SettingsError, match="an input"):
        check_outputs([Output("--out", image)], [out])


def test_the_voxels_of_a_header_are_an_input(tmp_path) -> None:
    (tmp_path / "image.mhd").write_text("NDims = 3\nElementDataFile = image.raw\n")
    (tmp_path / "image.raw").write_bytes(b"voxels")
    (tmp_path / "image.nrrd").write_text("NRRD0004\ndata file: detached.raw\n\n")
    for header, voxels in (("image.mhd", "image.raw"), ("image.nrrd", "detached.raw")):
        with pytest.raises(SettingsError, match=f"{voxels}' is the same file .* an input"):
            check_outputs([Output("--out", tmp_path / voxels)], [tmp_path / header])


def test_two_outputs_are_two_files(tmp_path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for other in ("a.csv", "./a.csv", "link/a.csv"):
        outputs = [Output("--csv", tmp_path / "a.csv"), Output("--html", tmp_path / other)]
        with pytest.raises(SettingsError, match=r"--html .* the same file as .* given to --csv"):
            check_outputs(outputs, [])


def test_what_may_be_written_is_and_nothing_is_left(tmp_path, image) -> None:
    (tmp_path / "old.csv").write_text("old")
    before = names(tmp_path)
    outputs = [Output("--csv", tmp_path / "old.csv", (".csv",))]
    outputs.append(Output("--html", tmp_path / "new" / "folder" / "a.html", (".html", ".htm")))
    check_outputs(outputs, [image])
    assert names(tmp_path) == before
    assert (tmp_path / "old.csv").read_text() == "old"


@pytest.mark.parametrize("name", ["a", "a.nii.gz", "a.csv.gz", "acsv"])
def test_another_suffix_is_refused_with_the_known_ones(tmp_path, name) -> None:
    with pytest.raises(SettingsError, match=r"must end with one of \.csv"):
        check_outputs([Output("--csv", tmp_path / name, (".csv",))], [])


def test_only_a_regular_file_is_replaced(tmp_path) -> None:
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "device.csv").symlink_to("/dev/null")
    for name, kind in (
        ("folder.csv", "a folder"),
        ("pipe.csv", "not a regular file"),
        ("device.csv", "not a regular file"),
    ):
        with pytest.raises(SettingsError, match=rf"{name}' is {kind}"):
            check_outputs([Output("--csv", tmp_path / name)], [])


def test_below_a_file_there_is_no_folder(tmp_path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "a.csv", tmp_path / "file" / "b" / "a.csv"):
        with pytest.raises(SettingsError, match="file' is not a folder"):
            check_outputs([Output("--csv", out)], [])


def test_a_name_that_is_too_long_is_refused(tmp_path) -> None:
    with pytest.raises(StoreError, match="File name too long"):
        check_outputs([Output("--csv", tmp_path / ("a" * 300))], [])


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can get to; pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def as_nobody(path: Path) -> str:
    """Check an output without root's rights; return what is said."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from liverseg.steps.outputs import Output, check_outputs\n"
        f"if os.geteuid() == 0: os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try:\n"
        "    check_outputs([Output('--out', Path(sys.argv[1]))], [])\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_without_the_right_to_write_it_is_refused(open_folder) -> None:
    (open_folder / "closed").mkdir(mode=0o555)
    for out in ("closed/a.csv", "closed/deeper/a.csv"):
        said = as_nobody(open_folder / out)
        assert said.startswith(f"StoreError no right to write {open_folder / out} (user id")
    protected = open_folder / "protected.csv"
    protected.write_text("keep")
    protected.chmod(0o444)
    assert "StoreError no right to write" in as_nobody(protected)
    assert as_nobody(open_folder / "new.csv") == ""
    assert names(open_folder) == ["closed", "protected.csv"]


def test_on_a_read_only_file_system_it_is_refused(tmp_path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting needs root")
    try:
        with pytest.raises(StoreError, match=r"no right to write .*a\.csv: .* is read-only"):
            check_outputs([Output("--csv", tmp_path / "a.csv")], [])
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_store_keeps_its_records(tmp_path) -> None:
    store = FolderStore(tmp_path / "store")
    store.put("studies/1/report.html", b"")
    (tmp_path / "link").symlink_to(tmp_path / "store")
    for name in ("store/studies/1/report.html", "link/cases/x", "store", "store/.local/x"):
        with pytest.raises(SettingsError, match="keeps; choose another folder"):
            check_outside(store, [Output("--out", tmp_path / name)])
    # Beside what it keeps, where the store is the working directory.
    check_outside(store, [Output("--out", tmp_path / "store" / "report.html")])
    check_outside(MemoryStore(), [Output("--out", tmp_path / "store" / "studies")])


def test_a_store_is_not_among_the_cases(tmp_path) -> None:
    for root in ("data", "data/store", "data/build/store", "data/../data"):
        with pytest.raises(SettingsError, match="lies among the cases"):
            check_apart(FolderStore(tmp_path / root), str(tmp_path / "data"))
    for root in ("store", "data/.store"):
        check_apart(FolderStore(tmp_path / root), str(tmp_path / "data"))
    check_apart(FolderStore(tmp_path), "s3://bucket/data")

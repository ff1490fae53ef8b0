import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from liverseg.errors import NotFound, StoreAway, StoreError
from liverseg.storage.folder import FolderStore
from tests.storage.contract import LargeObjectContract, StoreContract

SMALL_DISK_KIB = 256
NOBODY = 65534


class TestFolderStore(StoreContract, LargeObjectContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.root = tmp_path / "store with ümlaut"

    def make(self) -> FolderStore:
        return FolderStore(self.root)

    def large_store_url(self) -> str:
        return self.make().url


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_reading_makes_no_folder(tmp_path):
    store = FolderStore(tmp_path / "new")
    assert store.keys("") == []
    with pytest.raises(NotFound):
        store.get("a")
    assert not (tmp_path / "new").exists()


def test_a_value_is_a_plain_file_and_nothing_else_is_left(tmp_path):
    store = FolderStore(tmp_path)
    store.put("a/b.json", b"1")
    store.put("a/b.json", b"2")
    store.put_new("a/c.json", b"3")
    store.put_new("a/c.json", b"4")
    assert files_below(tmp_path) == ["a/b.json", "a/c.json"]


def test_dot_entries_are_invisible(tmp_path):
    store = FolderStore(tmp_path)
    store.put("a/b", b"")
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "lock").touch()
    (tmp_path / "a" / ".swp").touch()
    assert store.keys("") == ["a/b"]


def test_folders_are_looked_at_in_the_order_of_their_keys(tmp_path, monkeypatch):
    store, scandir, looked = FolderStore(tmp_path), os.scandir, []
    keys = ["r/0/a-b/1", "r/0/a/1", "r/0/decision.json", "r/0/promotions/1", "r/0/reports/1"]
    for key in keys:
        store.put(key, b"")

    def reversed_scandir(folder: Path) -> list[os.DirEntry[str]]:
        looked.append(folder.name)
        return sorted(scandir(folder), key=lambda entry: entry.name, reverse=True)

    monkeypatch.setattr(os, "scandir", reversed_scandir)
    assert store.keys("r/") == keys
    assert looked == ["r", "0", "a-b", "a", "promotions", "reports"]


def test_a_folder_that_becomes_empty_goes_with_its_last_value(tmp_path):
    store = FolderStore(tmp_path)
    store.put("a/b/c", b"")
    store.put("a/d", b"")
    store.delete("a/b/c")
    assert not (tmp_path / "a" / "b").exists()
    assert store.keys("") == ["a/d"]


def test_what_a_killed_writer_left_is_removed_when_it_is_old(tmp_path):
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    old, new = incoming / "old", incoming / "new"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    FolderStore(tmp_path).put("a", b"")
    assert not old.exists()
    assert new.exists()


def test_a_reader_never_sees_a_part_of_a_value(tmp_path):
    store = FolderStore(tmp_path)
    values = {bytes([n]) * 100_000 for n in range(8)}
    store.put("a", bytes(100_000))
    seen = set()
    writer = threading.Thread(target=lambda: [store.put("a", value) for value in values])
    writer.start()
    while writer.is_alive():
        seen.add(store.get("a"))
    writer.join()
    assert seen <= values | {bytes(100_000)}


@pytest.mark.slow
def test_values_come_and_go_in_one_folder_without_losing_any(tmp_path):
    store = FolderStore(tmp_path)

    def come_and_go() -> None:
        for _ in range(200):
            store.put("a/b/come", b"")
            store.delete("a/b/come")

    other = threading.Thread(target=come_and_go)
    other.start()
    for n in range(200):
        store.put(f"a/b/{n}", b"")
        store.delete(f"a/b/{n}")
    other.join()
    assert store.keys("") == []


def as_nobody(script: str, folder: Path) -> str:
    """Run `script` without root's rights (it sees the store's folder as `root`); its output."""
    prelude = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from liverseg.errors import StoreError\n"
        "from liverseg.storage.folder import FolderStore\n"
        f"if os.geteuid() == 0: os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "store = FolderStore(Path(sys.argv[1]))\n"
        "try:\n"
        f"    {script}\n"
        "except StoreError as exc:\n"
        "    print(exc)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude, str(folder)], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def open_folder():
    """A folder that another user can get to; pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_without_the_right_to_write_the_message_names_the_folder_and_the_right(open_folder):
    folder = open_folder / "store"
    folder.mkdir(mode=0o555)
    message = as_nobody("store.put('a/b', b'')", folder)
    assert "no right to write" in message
    assert str(folder) in message
    assert list(folder.iterdir()) == []


def test_without_the_right_to_read_the_message_says_so(open_folder):
    folder = open_folder / "store"
    FolderStore(folder).put("a", b"")
    (folder / "a").chmod(0o200)
    folder.chmod(0o555)
    message = as_nobody("store.get('a')", folder)
    # The owner of the file may be the very user of this test, who has no right either.
    assert f"no right to read {folder / 'a'}" in message


def test_without_the_right_to_list_the_message_says_so(open_folder):
    folder = open_folder / "store"
    FolderStore(folder).put("a/b", b"")
    (folder / "a").chmod(0o311)
    assert f"no right to list {folder / 'a'}" in as_nobody("store.keys('a/')", folder)


def test_a_full_disk_leaves_nothing_half_written(small_disk):
    store = FolderStore(small_disk)
    store.put("kept", b"old")
    with pytest.raises(StoreError, match=r"disk full.*checkpoints/0/state"):
        store.put("checkpoints/0/state", bytes(1_000_000))
    with pytest.raises(StoreError, match="disk full"):
        store.put("kept", bytes(1_000_000))
    assert store.get("kept") == b"old"
    assert files_below(small_disk) == ["kept"]
    store.put("checkpoints/0/state", bytes(100_000))


def test_a_write_that_is_cut_short_leaves_nothing_half_written(tmp_path):
    store = FolderStore(tmp_path)
    store.put("a", b"old")
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        with pytest.raises(StoreError, match=r"cannot write .*/a: File too large"):
            store.put("a", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert store.get("a") == b"old"
    assert files_below(tmp_path) == ["a"]


def test_a_store_below_a_file_is_refused_with_its_path(tmp_path):
    (tmp_path / "file").touch()
    store = FolderStore(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match="file/store"):
        store.put("a", b"")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN])
def test_a_file_server_that_is_away_is_reported_when_it_goes_and_when_it_is_back(
    tmp_path, monkeypatch, lines, number
):
    """As a file system on the network says it; the kernel's part alone is replaced."""
    store = FolderStore(tmp_path / "store")
    store.put("a", b"1")

    def away(*_arguments: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", away)
        patched.setattr(os, "replace", away)
        patched.setattr(Path, "read_bytes", away)
        patched.setattr(Path, "unlink", away)
        for attempt in (
            lambda: store.keys(""),
            lambda: store.put("b", b""),
            lambda: store.get("a"),
            lambda: store.delete("a"),
        ):
            with pytest.raises(StoreAway, match=os.strerror(number)):
                attempt()
    assert lines == [f"store {tmp_path / 'store'}: {os.strerror(number)}; waiting for it"]
    assert store.get("a") == b"1"
    assert store.keys("") == ["a"]
    assert len(lines) == 2
    assert "answers again after" in lines[1]


def test_a_full_disk_is_not_waited_for(tmp_path, monkeypatch):
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="disk full") as caught:
        FolderStore(tmp_path).put("a", b"")
    assert not isinstance(caught.value, StoreAway)

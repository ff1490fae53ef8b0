"""Files are written whole or not at all, and several of them all or none."""

import errno
import os
from pathlib import Path

import pytest

from liverseg.errors import StoreError
from liverseg.storage.files import whole_file, write_files

SMALL_DISK_KIB = 64


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def is_folder(descriptor: int) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").is_dir()


def test_folders_are_made_and_nothing_else_is_left(tmp_path) -> None:
    write_files({tmp_path / "a/b/c.txt": b"1", tmp_path / "d.txt": b"2"})
    assert contents(tmp_path) == {"a/b/c.txt": b"1", "d.txt": b"2"}


def test_a_full_disk_leaves_neither_file_and_names_the_room(small_disk) -> None:
    (small_disk / "one").write_bytes(b"old")
    with pytest.raises(StoreError) as refused:
        write_files({small_disk / "one": bytes(20_000), small_disk / "two": bytes(50_000)})
    assert str(refused.value) == (
        f"disk full: cannot write {small_disk / 'two'} (70 kB needed, 61 kB free)"
    )
    assert contents(small_disk) == {"one": b"old"}


def test_a_full_disk_takes_the_folders_away_again_that_were_made(small_disk) -> None:
    with pytest.raises(StoreError, match="disk full"):
        write_files({small_disk / "a/b/one": bytes(100_000)})
    assert list(small_disk.iterdir()) == []


def test_a_file_that_is_written_piece_by_piece_survives_a_full_disk(small_disk) -> None:
    (small_disk / "one").write_bytes(b"old")

    def write() -> None:
        with whole_file(small_disk / "one") as file:
            for _ in range(10):
                file.write(bytes(10_000))

    with pytest.raises(StoreError, match=f"disk full: cannot write {small_disk / 'one'}"):
        write()
    assert contents(small_disk) == {"one": b"old"}


def test_an_error_of_the_writer_leaves_what_was_there(tmp_path) -> None:
    (tmp_path / "one").write_bytes(b"old")

    def write() -> None:
        with whole_file(tmp_path / "one") as file:
            file.write(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert contents(tmp_path) == {"one": b"old"}


def test_where_the_second_rename_fails_the_first_is_undone(tmp_path) -> None:
    """The second target became a folder after it was checked: the kernel refuses the rename."""
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "folder" / "x").mkdir(parents=True)
    written = {tmp_path / name: b"1" for name in ("old", "new", "folder")}
    with pytest.raises(StoreError, match=rf"cannot write {tmp_path / 'folder'}: Is a directory"):
        write_files(written)
    assert contents(tmp_path) == {"old": b"old"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "old"]


def test_without_hard_links_the_first_rename_is_undone_too(tmp_path, monkeypatch) -> None:
    """The kernel's part alone is replaced: FAT and some network file systems have no hard links."""

    def no_links(*_names) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    test_where_the_second_rename_fails_the_first_is_undone(tmp_path)


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "file")
    write_files({tmp_path / "link": b"1"})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "file").read_bytes() == b"1"


def test_a_new_file_has_the_rights_of_any_new_file(tmp_path) -> None:
    write_files({tmp_path / "ours": b""})
    (tmp_path / "plain").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_that_is_replaced_keeps_its_rights(tmp_path) -> None:
    path = tmp_path / "private"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write_files({path: b"new"})
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)


def test_file_and_folder_are_flushed_around_the_rename(tmp_path, monkeypatch) -> None:
    """The kernel's part is watched, not replaced."""
    calls = []
    fsync, rename = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        calls.append("folder" if is_folder(descriptor) else "file")
        fsync(descriptor)

    def watched_rename(*paths: object) -> None:
        calls.append("rename")
        rename(*paths)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_rename)
    write_files({tmp_path / "one": b"1", tmp_path / "two": b"2"})
    assert calls == ["file", "file", "rename", "rename", "folder"]


def test_a_file_system_that_cannot_flush_folders_is_written_all_the_same(
    tmp_path, monkeypatch
) -> None:
    fsync = os.fsync

    def without_folders(descriptor: int) -> None:
        if is_folder(descriptor):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", without_folders)
    write_files({tmp_path / "one": b"1"})
    assert contents(tmp_path) == {"one": b"1"}

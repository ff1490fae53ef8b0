"""What every store promises; an adapter's test class subclasses this and makes the store."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from liverseg.errors import NotFound, StoreError
from liverseg.storage.port import ObjectStore

ALLOWED_BYTES = 200 << 20
# Writes 1 GiB of bytes that differ everywhere, stores it and gets it back; prints how far the
# memory rose above what the modules and an open store need. VmHWM is in KiB.
LARGE = """
import sys
from hashlib import sha256
from pathlib import Path
from liverseg.storage.open import open_store

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

def digest(path):
    found = sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()

folder, store = Path(sys.argv[1]), open_store(sys.argv[2])
store.put("small", b"")
sent, received = folder / "sent", folder / "received"
with sent.open("wb") as file:
    for number in range(1 << 10):
        file.write(number.to_bytes(4, "big") * (1 << 18))
before = peak()
store.put_file("large", sent)
expected = digest(sent)
sent.unlink()
store.get_file("large", received)
assert digest(received) == expected
print(peak() - before)
"""


class StoreContract:
    def make(self) -> ObjectStore:
        raise NotImplementedError

    def test_a_value_is_read_back(self):
        store = self.make()
        store.put("studies/1/spec.json", b"\x00bytes")
        assert store.get("studies/1/spec.json") == b"\x00bytes"

    def test_a_put_replaces(self):
        store = self.make()
        store.put("a", b"old")
        store.put("a", b"new")
        assert store.get("a") == b"new"

    def test_an_empty_value_is_a_value(self):
        store = self.make()
        store.put("a", b"")
        assert store.get("a") == b""
        assert store.keys("") == ["a"]

    def test_an_unknown_key_is_not_found_and_named(self):
        with pytest.raises(NotFound, match="no/such"):
            self.make().get("no/such")

    def test_the_beginning_of_a_key_is_not_found(self):
        store = self.make()
        store.put("a/b", b"")
        with pytest.raises(NotFound):
            store.get("a")

    def test_a_key_below_a_value_is_not_found(self):
        store = self.make()
        store.put("a", b"")
        with pytest.raises(NotFound):
            store.get("a/b")

    def test_put_new_writes_only_once(self):
        store = self.make()
        assert store.put_new("a/b", b"first")
        assert not store.put_new("a/b", b"second")
        assert store.get("a/b") == b"first"

    def test_a_file_is_stored_and_got_back(self, tmp_path):
        store, source, target = self.make(), tmp_path / "source", tmp_path / "new" / "target"
        source.write_bytes(b"\x00bytes")
        store.put("a/b", b"old and longer than the file")
        store.put_file("a/b", source)
        assert store.get("a/b") == b"\x00bytes"
        store.put("a/b", b"other")
        store.get_file("a/b", target)
        assert target.read_bytes() == b"other"

    def test_an_empty_file_is_stored_and_got_back(self, tmp_path):
        store, path = self.make(), tmp_path / "empty"
        path.touch()
        store.put_file("a", path)
        path.unlink()
        store.get_file("a", path)
        assert path.read_bytes() == b""

    @pytest.mark.slow
    def test_a_file_of_many_parts_is_stored_and_got_back(self, tmp_path):
        store, source, target = self.make(), tmp_path / "source", tmp_path / "target"
        # Just above two parts of an S3 upload, and no part like another.
        data = b"".join(number.to_bytes(4, "big") for number in range(8_400_000))
        source.write_bytes(data)
        store.put_file("a", source)
        store.get_file("a", target)
        assert target.read_bytes() == data
        assert store.get("a") == data

    def test_an_unknown_key_leaves_the_file_as_it_was(self, tmp_path):
        path = tmp_path / "kept"
        path.write_bytes(b"kept")
        with pytest.raises(NotFound, match="no/such"):
            self.make().get_file("no/such", path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]
        assert path.read_bytes() == b"kept"

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(StoreError, match="no such file"):
            self.make().put_file("a", tmp_path / "no such file")

    def test_of_many_writers_of_a_new_key_one_wins_and_its_bytes_stay(self):
        store = self.make()
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda n: store.put_new("a/b", str(n).encode()), range(8)))
        assert results.count(True) == 1
        assert store.get("a/b") == str(results.index(True)).encode()

    @pytest.mark.slow
    def test_ten_thousand_keys_are_listed_sorted(self):
        store = self.make()
        keys = [f"studies/1/curves/{n % 100:04d}/{n:06d}.json" for n in range(10_000)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: store.put(key, b""), keys))
        assert store.keys("studies/1/") == sorted(keys)
        assert len(store.keys("studies/1/curves/0007/")) == 100

    def test_keys_are_sorted_and_complete(self):
        store = self.make()
        for key in ("b", "a/2/x", "a/10", "a-b", "a/2/é"):
            store.put(key, b"")
        assert store.keys("") == sorted(["b", "a/2/x", "a/10", "a-b", "a/2/é"])

    def test_a_prefix_need_not_end_at_a_slash(self):
        store = self.make()
        for key in ("a/x1", "a/x2/y", "a/z", "ab/x1"):
            store.put(key, b"")
        assert store.keys("a/x") == ["a/x1", "a/x2/y"]
        assert store.keys("a/") == ["a/x1", "a/x2/y", "a/z"]
        assert store.keys("a") == ["a/x1", "a/x2/y", "a/z", "ab/x1"]

    def test_an_unknown_prefix_has_no_keys(self):
        assert self.make().keys("no/such/") == []

    def test_folders_are_what_keys_continue_after(self):
        store = self.make()
        for key in ("a/2/x", "a/10/y/z", "a/10/y/w", "a/é b/x", "a/1", "a-b/x", "a/2-b"):
            store.put(key, b"")
        assert store.folders("") == ["a", "a-b"]
        assert store.folders("a/") == sorted(["10", "2", "é b"])
        assert store.folders("a/10/") == ["y"]
        assert store.folders("a/2/") == []
        assert store.folders("no/such/") == []
        store.delete("a/2/x")
        assert store.folders("a/") == ["10", "é b"]

    def test_a_deleted_key_is_gone(self):
        store = self.make()
        store.put("a/b", b"")
        store.put("a/c", b"")
        store.delete("a/b")
        assert store.keys("") == ["a/c"]
        with pytest.raises(NotFound):
            store.get("a/b")

    def test_deleting_twice_is_no_error(self):
        store = self.make()
        store.put("a/b", b"")
        store.delete("a/b")
        store.delete("a/b")

    def test_a_key_can_be_written_again_after_its_deletion(self):
        store = self.make()
        store.put("a/b", b"1")
        store.delete("a/b")
        assert store.put_new("a/b", b"2")

    @pytest.mark.parametrize("key", ["Fälle/Leber 1 (ä).nii", "病例/一", "a b/+%#?*\\&", "e\u0301"])
    def test_a_key_may_hold_any_character(self, key):
        store = self.make()
        store.put(key, b"here")
        assert store.get(key) == b"here"
        assert store.keys(key[:1]) == [key]

    @pytest.mark.parametrize(
        "key", ["", "/etc/passwd", "../x", "a/../x", "a//b", "a/", ".hidden", "a/.b", "a\0b"]
    )
    def test_a_key_that_would_leave_or_disturb_the_store_is_refused(self, key):
        store = self.make()
        for attempt in (
            lambda: store.put(key, b""),
            lambda: store.put_new(key, b""),
            lambda: store.get(key),
            lambda: store.put_file(key, Path(__file__)),
            lambda: store.get_file(key, Path("unwritten")),
            lambda: store.delete(key),
        ):
            with pytest.raises(StoreError, match="key"):
                attempt()


class LargeObjectContract:
    """What stores promise that keep their objects elsewhere than in this process."""

    def large_store_url(self) -> str:
        """Return the URL of an empty store, for another process with this one's environment."""
        raise NotImplementedError

    @pytest.mark.slow
    def test_a_gibibyte_is_stored_and_got_back_in_bounded_memory(self, tmp_path):
        command = [sys.executable, "-c", LARGE, str(tmp_path), self.large_store_url()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < ALLOWED_BYTES

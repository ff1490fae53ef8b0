from dataclasses import dataclass
from hashlib import sha256

import pytest

from liverseg.errors import IntegrityError, NotFound, StoreError
from liverseg.storage import bundle
from liverseg.storage.memory import MemoryStore


@dataclass(frozen=True)
class WithSeed(bundle.Manifest):
    seed: int


FILES = {"state.bin": b"state", "best.bin": b"best"}


def test_files_are_read_back_and_the_manifest_describes_them():
    store = MemoryStore()
    bundle.commit(store, "c/1/", FILES, {"seed": 3})
    assert bundle.load(store, "c/1/") == FILES
    described = bundle.manifest(store, "c/1/", WithSeed)
    assert described.seed == 3
    assert described.files["best.bin"] == bundle.File(sha256(b"best").hexdigest(), 4)


def test_a_file_that_the_manifest_does_not_list_is_refused_with_those_that_it_lists():
    store = MemoryStore()
    bundle.commit(store, "c/1/", FILES)
    with pytest.raises(IntegrityError, match=r"c/1/manifest.json.*'other.bin', only best.bin, st"):
        bundle.load(store, "c/1/", ["other.bin"])


def test_some_of_the_files_can_be_read_alone():
    store = MemoryStore()
    bundle.commit(store, "c/1/", FILES)
    store.delete("c/1/state.bin")
    assert bundle.load(store, "c/1/", ["best.bin"]) == {"best.bin": b"best"}


@pytest.mark.parametrize("write", [0, 1, 2])
def test_a_bundle_whose_writing_was_cut_short_does_not_exist(write):
    def cut(number: int, key: str) -> None:
        if number == write:
            raise StoreError(key)

    store = MemoryStore(before_write=cut)
    with pytest.raises(StoreError):
        bundle.commit(store, "c/1/", FILES)
    assert not bundle.exists(store, "c/1/")
    with pytest.raises(NotFound):
        bundle.load(store, "c/1/")


def test_changed_bytes_are_refused_with_the_key_and_both_hashes():
    store = MemoryStore()
    bundle.commit(store, "c/1/", FILES)
    store.put("c/1/best.bin", b"bEst")
    with pytest.raises(IntegrityError) as caught:
        bundle.load(store, "c/1/")
    for word in ("c/1/best.bin", sha256(b"best").hexdigest(), sha256(b"bEst").hexdigest()):
        assert word in str(caught.value)


def test_a_missing_file_is_refused_with_its_key():
    store = MemoryStore()
    bundle.commit(store, "c/1/", FILES)
    store.delete("c/1/best.bin")
    with pytest.raises(IntegrityError, match=r"c/1/best.bin.*gone"):
        bundle.load(store, "c/1/")


def test_a_damaged_manifest_is_refused_with_its_key():
    store = MemoryStore()
    store.put("c/1/manifest.json", b"{")
    with pytest.raises(IntegrityError, match=r"c/1/manifest.json"):
        bundle.manifest(store, "c/1/")


def test_the_hash_of_the_manifest_fixes_every_byte():
    store = MemoryStore()
    bundle.commit(store, "c/1/", FILES)
    bundle.commit(store, "c/2/", FILES)
    bundle.commit(store, "c/3/", FILES | {"best.bin": b"other"})
    first, second, third = (bundle.manifest_sha256(store, f"c/{n}/") for n in (1, 2, 3))
    assert first == second != third


def test_what_a_full_disk_cut_short_is_taken_back():
    def full(_number: int, key: str) -> None:
        if key == "a/2":
            raise StoreError("disk full")

    store = MemoryStore(before_write=full)
    with pytest.raises(StoreError, match="disk full"):
        bundle.commit(store, "a/", {"1": b"x", "2": b"y", "3": b"z"})
    assert store.keys("") == []


def test_what_somebody_else_has_committed_is_not_taken_back():
    def full(number: int, key: str) -> None:
        if number > 3 and key == "a/2":
            raise StoreError("disk full")

    files = {"1": b"x", "2": b"y"}
    store = MemoryStore(before_write=full)
    bundle.commit(store, "a/", files)
    with pytest.raises(StoreError, match="disk full"):
        bundle.commit(store, "a/", files)
    assert bundle.load(store, "a/") == files

"""What every store promises; an adapter's test class subclasses this and makes the store."""

import pytest

from liverseg.errors import NotFound, StoreError
from liverseg.storage.port import ObjectStore


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
            lambda: store.delete(key),
        ):
            with pytest.raises(StoreError, match="key"):
                attempt()

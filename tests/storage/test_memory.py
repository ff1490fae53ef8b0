import pytest

from liverseg.errors import StoreError
from liverseg.storage.memory import MemoryStore
from tests.storage.contract import StoreContract


class TestMemoryStore(StoreContract):
    def make(self) -> MemoryStore:
        return MemoryStore()


def test_a_write_can_be_made_to_fail_before_it_changes_anything():
    def refuse_the_second(number: int, key: str) -> None:
        if number == 1:
            raise StoreError(f"refused {key}")

    store = MemoryStore(before_write=refuse_the_second)
    store.put("a", b"1")
    with pytest.raises(StoreError, match="refused a"):
        store.put("a", b"2")
    assert store.get("a") == b"1"


def test_a_writer_can_be_made_to_die_after_its_write_took_effect():
    def die(number: int, key: str) -> None:
        raise StoreError(key)

    store = MemoryStore(after_write=die)
    with pytest.raises(StoreError):
        store.put_new("a", b"1")
    assert store.get("a") == b"1"

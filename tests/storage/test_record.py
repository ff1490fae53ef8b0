import pytest

from liverseg.errors import IntegrityError
from liverseg.storage import record
from liverseg.storage.memory import MemoryStore


def test_the_same_values_give_the_same_bytes_in_any_order():
    assert record.encode({"a": 1, "b": 2}) == record.encode({"b": 2, "a": 1})


def test_what_is_not_finite_becomes_null():
    values = {"jaccard": float("nan"), "cases": {"a": float("inf")}, "list": (float("nan"), 1.0)}
    expected = {"jaccard": None, "cases": {"a": None}, "list": [None, 1.0]}
    assert record.decode(record.encode(values), "k") == expected


def test_a_record_is_written_only_once_where_that_is_asked():
    store = MemoryStore()
    assert record.write_new(store, "a", {"n": 1})
    assert not record.write_new(store, "a", {"n": 2})
    assert record.read(store, "a") == {"n": 1}
    record.write(store, "a", {"n": 3})
    assert record.read(store, "a") == {"n": 3}


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_anything_but_an_object_is_refused_with_its_key(data):
    store = MemoryStore()
    store.put("some/key", data)
    with pytest.raises(IntegrityError, match="some/key"):
        record.read(store, "some/key")

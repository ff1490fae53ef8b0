from liverseg.storage.caching import CachingStore
from liverseg.storage.memory import MemoryStore
from tests.storage.contract import StoreContract


class TestCachingStore(StoreContract):
    def make(self) -> CachingStore:
        return CachingStore(MemoryStore(), lambda key: False)


def test_what_was_read_is_not_read_again_unless_it_may_change():
    behind = MemoryStore()
    store = CachingStore(behind, lambda key: key.endswith("heartbeat.json"))
    for key in ("spec.json", "heartbeat.json"):
        behind.put(key, b"old")
        assert store.get(key) == b"old"
        behind.put(key, b"new")
    assert (store.get("spec.json"), store.get("heartbeat.json")) == (b"old", b"new")

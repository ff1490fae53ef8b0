"""A store in memory that is away when a test wants it."""

from collections.abc import Callable

from liverseg.errors import StoreAway, StoreError
from liverseg.storage.memory import MemoryStore


class AwayStore(MemoryStore):
    """Answers nobody while `away()`, but raises `error`."""

    def __init__(self) -> None:
        super().__init__()
        self.away: Callable[[], bool] = lambda: False
        self.error: type[StoreError] = StoreAway

    def get(self, key: str) -> bytes:
        self._refuse()
        return super().get(key)

    def keys(self, prefix: str) -> list[str]:
        self._refuse()
        return super().keys(prefix)

    def _begin(self, key: str) -> int:
        self._refuse()
        return super()._begin(key)

    def _refuse(self) -> None:
        if self.away():
            raise self.error("the store is away")

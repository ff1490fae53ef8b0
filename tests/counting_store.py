"""A store in memory that counts what it is asked."""

from liverseg.storage.memory import MemoryStore


class CountingStore(MemoryStore):
    """Counts requests as S3 has them: a LIST returns a thousand keys or folders."""

    calls = 0

    def get(self, key: str) -> bytes:
        self.calls += 1
        return super().get(key)

    def keys(self, prefix: str) -> list[str]:
        return self._counted(super().keys(prefix))

    def folders(self, prefix: str) -> list[str]:
        parts = (key.removeprefix(prefix).partition("/") for key in super().keys(prefix))
        return self._counted(sorted({part for part, slash, _ in parts if slash}))

    def _counted(self, listed: list[str]) -> list[str]:
        self.calls += max(1, -(-len(listed) // 1000))
        return listed

"""A store whose requests are timed, and counted where they fail."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from liverseg.errors import NotFound, StoreError
from liverseg.storage.port import ObjectStore

Answer = TypeVar("Answer")
VERBS = ("get", "put", "list", "delete")
_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class StoreMetrics:
    """Seconds and errors of store requests by verb, in a registry."""

    def __init__(self, registry: CollectorRegistry, labels: dict[str, str] | None = None) -> None:
        fixed = labels or {}
        names = (*fixed, "verb")
        duration = Histogram(
            "liverseg_store_request_duration_seconds",
            "Seconds of a request to the store, its repetitions included.",
            names,
            registry=registry,
            buckets=_BUCKETS,
        )
        errors = Counter(
            "liverseg_store_errors_total",
            "Requests to the store that failed; that a key is missing is no failure.",
            names,
            registry=registry,
        )
        # All are there from the beginning, so that the first error is an increase.
        self._duration = {verb: duration.labels(**fixed, verb=verb) for verb in VERBS}
        self._errors = {verb: errors.labels(**fixed, verb=verb) for verb in VERBS}

    def timed(self, verb: str, act: Callable[[], Answer]) -> Answer:
        """Return what `act` does, and note how long it took and whether it failed."""
        start = perf_counter()
        try:
            return act()
        except NotFound:
            raise
        except StoreError:
            self._errors[verb].inc()
            raise
        finally:
            self._duration[verb].observe(perf_counter() - start)


class MeasuredStore:
    """An ObjectStore before another one that notes its requests in StoreMetrics."""

    def __init__(self, store: ObjectStore, metrics: StoreMetrics) -> None:
        self._store, self._timed = store, metrics.timed

    def put(self, key: str, data: bytes) -> None:
        """Write or replace."""
        self._timed("put", lambda: self._store.put(key, data))

    def put_new(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; return whether it was written."""
        return self._timed("put", lambda: self._store.put_new(key, data))

    def get(self, key: str) -> bytes:
        """Return the bytes; raises NotFound."""
        return self._timed("get", lambda: self._store.get(key))

    def put_file(self, key: str, path: Path) -> None:
        """Write or replace with the bytes of a file of any size, in bounded memory."""
        self._timed("put", lambda: self._store.put_file(key, path))

    def get_file(self, key: str, path: Path) -> None:
        """Write the bytes to the file `path`, whole or not at all, in bounded memory."""
        self._timed("get", lambda: self._store.get_file(key, path))

    def keys(self, prefix: str) -> list[str]:
        """Return every key that starts with `prefix`, sorted."""
        return self._timed("list", lambda: self._store.keys(prefix))

    def folders(self, prefix: str) -> list[str]:
        """Return the parts that follow `prefix` in keys which continue after them, sorted."""
        return self._timed("list", lambda: self._store.folders(prefix))

    def delete(self, key: str) -> None:
        """Remove; an unknown key is no error."""
        self._timed("delete", lambda: self._store.delete(key))

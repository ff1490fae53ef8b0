"""Controllers whose `run()` is executed step by step, so that a schedule decides who acts when."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from liverseg.race.controller import Controller
from liverseg.race.decide.reconcile import Until
from liverseg.storage.memory import MemoryStore
from liverseg.storage.port import ObjectStore
from tests.race.fault_script import Crash

T = TypeVar("T")


class Abandoned(BaseException):
    """Raised by `pause` where nobody wants to know how it continues."""


class Stepped:
    """Work in a thread of its own, which runs only while somebody waits in `step`.

    One thread runs at a time, so the order of everything is that of the calls of `step`.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self.over = False
        """Whether the work has ended without an error."""
        self._work = work
        self._error: BaseException | None = None
        self._abandoned = False
        self._may_run, self._rests = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Run to the next pause or to the end; an error that ends the work is raised here."""
        self._may_run.release()
        self._rests.acquire()
        if self._error is not None:
            raise self._error

    def pause(self) -> None:
        """Called by the work: let others act until the next `step`."""
        self._rests.release()
        self._may_run.acquire()
        if self._abandoned:
            raise Abandoned

    def abandon(self) -> None:
        """End the work where it pauses."""
        self._abandoned = True
        self._may_run.release()
        self._thread.join()

    def _run(self) -> None:
        self._may_run.acquire()
        try:
            if not self._abandoned:
                self._work()
                self.over = True
        except BaseException as error:  # noqa: BLE001 - raised again in the thread of `step`
            self._error = error
        self._rests.release()


class SteppedController(Controller):
    """A controller that pauses before every reconcile and instead of sleeping.

    `may_sleep` is called before it sleeps; what it raises, `sleep` raises.
    """

    def __init__(
        self,
        *args: Any,
        may_sleep: Callable[[], None] = lambda: None,
        take_over: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(*args, sleep=self._pause_instead, **options)
        self.acted = True
        """Whether the last reconcile changed anything, so that the next one follows at once."""
        self._may_sleep = may_sleep
        self._steps = Stepped(lambda: self.run("end", take_over))

    @property
    def over(self) -> bool:
        """Whether `run` has returned."""
        return self._steps.over

    def step(self) -> None:
        """Do one reconcile of `run()`; whatever `run` raises is raised here."""
        self._steps.step()

    def abandon(self) -> None:
        """End without a further reconcile."""
        self._steps.abandon()

    def reconcile(self, until: Until) -> tuple[bool, bool]:
        if self.acted:
            self._steps.pause()
        self.acted = False
        over, self.acted = super().reconcile(until)
        return over, self.acted

    def _pause_instead(self, seconds: float) -> None:
        self._may_sleep()
        # It waits for another controller, the store or the platform: time has to pass.
        self.acted = False
        self._steps.pause()


class View:
    """The store as one controller sees it.

    A controller that a crash has killed writes and reads nothing more, whatever `finally` clauses
    it has. With `heartbeats` of its own it believes that it is the only one.
    """

    def __init__(self, store: ObjectStore, heartbeats: MemoryStore | None = None) -> None:
        self._store, self._heartbeats = store, heartbeats
        self._dead = False

    def put(self, key: str, data: bytes) -> None:
        self._write(lambda: self._of(key).put(key, data))

    def put_new(self, key: str, data: bytes) -> bool:
        return self._write(lambda: self._of(key).put_new(key, data))

    def get(self, key: str) -> bytes:
        return self._of(key).get(key)

    def keys(self, prefix: str) -> list[str]:
        return self._of(prefix).keys(prefix)

    def folders(self, prefix: str) -> list[str]:
        return self._of(prefix).folders(prefix)

    def delete(self, key: str) -> None:
        self._write(lambda: self._of(key).delete(key))

    def _of(self, key: str) -> ObjectStore:
        if self._dead:
            raise Crash
        own = self._heartbeats is not None and key.endswith("heartbeat.json")
        return self._heartbeats if own else self._store

    def _write(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except Crash:
            self._dead = True
            raise

"""Work on many items in processes of their own, of which one may die without ending the others.

concurrent.futures gives up all that is waiting when one process dies, and does not say on what it
worked.
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
# A process that is asked to end while it computes is given so long.
_END_SECONDS = 5.0


@dataclass(frozen=True)
class Died:
    """What a process left that ended before it had a result."""

    exit_code: int | None
    """Negative: the signal that ended it."""

    @property
    def reason(self) -> str:
        """In a few words."""
        code = self.exit_code
        if code is None or code >= 0:
            return f"its process ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        often = ", as the system does where memory runs out" if -code == signal.SIGKILL else ""
        return f"its process was ended by {name}{often}"


def run_each(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result | Died]]:
    """Yield every item with its result, in the order in which they are done.

    Args:
        function: Of a module; it is called in other processes and raises nothing.
        items: What it is called with; items and results are pickled.
        workers: How many processes at a time. One serves several items; the next item after one
            that died gets a new process.
    """
    waiting, idle = deque(items), list[_Worker[Item, Result]]()
    busy: dict[Connection, tuple[_Worker[Item, Result], Item]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                item = waiting.popleft()
                worker = _start(function, idle, item)
                busy[worker.connection] = worker, item
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                worker, item = busy.pop(ready)
                result = worker.result()
                if not isinstance(result, Died):
                    idle.append(worker)
                yield item, result
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.end()


def _start(
    function: Callable[[Item], Result], idle: "list[_Worker[Item, Result]]", item: Item
) -> "_Worker[Item, Result]":
    """Return a worker that has the item: an idle one that lives, or a new one."""
    while idle:
        worker = idle.pop()
        try:
            worker.connection.send(item)
        except OSError:  # it was killed while it waited
            worker.end()
        else:
            return worker
    worker = _Worker(function)
    with suppress(OSError):  # dead already: its result will say so
        worker.connection.send(item)
    return worker


class _Worker(Generic[Item, Result]):
    """A process that gets items and returns results."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self._process.start()
        theirs.close()

    def result(self) -> Result | Died:
        """Return what the process has sent, or how it ended."""
        try:
            received: Result = self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            self.end()
            return Died(code)
        return received

    def end(self) -> None:
        """End the process, whatever it does."""
        self.connection.close()
        self._process.terminate()
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


def _serve(connection: Connection, function: Callable[[Item], Result]) -> None:
    """Answer with results until the other side is gone; Ctrl-C is for that one to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        while True:
            connection.send(function(connection.recv()))

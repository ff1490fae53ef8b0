"""Follow a run on a server until it is over; a server that is away for a while is waited for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from liverseg.errors import PlatformError

OVER = frozenset({"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"})
POLL_SECONDS = 5.0
# An API server that is updated or whose node is replaced is back by then.
SERVER_AWAY_SECONDS = 600.0
Sleep = Callable[[float], None]


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Args:
        state: KFP's RuntimeState, such as RUNNING.
        tasks: State of every task of ours, by the name that the UI shows.
        error: What the server says of a failure; empty where nothing.
    """

    state: str
    tasks: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in OVER

    @property
    def failed(self) -> list[str]:
        """The tasks that failed."""
        return [name for name, state in self.tasks.items() if state == "FAILED"]


def follow(
    look: Callable[[], RunState],
    tell: Callable[[str], None],
    sleep: Sleep,
    clock: Callable[[], float],
) -> RunState:
    """Look until the run is over; return its last state.

    Args:
        look: Asks the server; raises PlatformError where it does not answer.
        tell: Called with a line whenever a task has another state than before.
        sleep: Waits some seconds.
        clock: Seconds; only differences count.

    Raises:
        PlatformError: The server has not answered for ten minutes.
    """
    before: Mapping[str, str] = {}
    heard, unreachable = clock(), False
    while True:
        try:
            state = look()
        except PlatformError as error:
            if clock() - heard >= SERVER_AWAY_SECONDS:
                raise
            if not unreachable:
                tell(f"{error}; the run continues without us, waiting for the server")
            unreachable = True
        else:
            heard, unreachable = clock(), False
            for name, task in state.tasks.items():
                if before.get(name) != task:
                    tell(f"{name}: {task.lower()}")
            before = state.tasks
            if state.over:
                return state
        sleep(POLL_SECONDS)

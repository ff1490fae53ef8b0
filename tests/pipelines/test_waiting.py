from collections.abc import Iterator

import pytest

from liverseg.errors import PlatformError
from pipelines.waiting import POLL_SECONDS, SERVER_AWAY_SECONDS, RunState, follow


class Looks:
    """A run that stands where it is told to, look after look, and a clock that sleeping moves."""

    def __init__(self, *looks: RunState | PlatformError) -> None:
        self._looks: Iterator[RunState | PlatformError] = iter(looks)
        self.now, self.lines = 0.0, list[str]()

    def look(self) -> RunState:
        result = next(self._looks)
        if isinstance(result, PlatformError):
            raise result
        return result

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def follow(self) -> RunState:
        return follow(self.look, self.lines.append, self.sleep, lambda: self.now)


AWAY = PlatformError("no KFP server answers")


def test_every_change_is_reported_once() -> None:
    looks = Looks(
        RunState("PENDING"),
        RunState("RUNNING", {"scan": "RUNNING"}),
        RunState("RUNNING", {"scan": "RUNNING"}),
        RunState("RUNNING", {"scan": "SUCCEEDED", "rung 0": "PENDING"}),
        RunState("FAILED", {"scan": "SUCCEEDED", "rung 0": "FAILED"}),
    )
    ended = looks.follow()
    assert ended.failed == ["rung 0"]
    assert looks.lines == [
        "scan: running", "scan: succeeded", "rung 0: pending", "rung 0: failed",
    ]  # fmt: skip
    assert looks.now == 4 * POLL_SECONDS


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"])
def test_these_states_are_the_end(state: str) -> None:
    assert Looks(RunState(state)).follow().state == state


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELING", "PAUSED"])
def test_these_states_are_not(state: str) -> None:
    assert Looks(RunState(state), RunState("SUCCEEDED")).follow().state == "SUCCEEDED"


def test_a_server_that_is_away_for_a_while_is_waited_for_and_reported_once() -> None:
    looks = Looks(RunState("RUNNING"), AWAY, AWAY, AWAY, RunState("SUCCEEDED"))
    assert looks.follow().state == "SUCCEEDED"
    assert looks.lines == [f"{AWAY}; the run continues without us, waiting for the server"]


def test_a_server_that_stays_away_is_an_error() -> None:
    looks = Looks(RunState("RUNNING"), *[AWAY] * 1000)
    with pytest.raises(PlatformError, match="no KFP server"):
        looks.follow()
    assert SERVER_AWAY_SECONDS <= looks.now <= SERVER_AWAY_SECONDS + 2 * POLL_SECONDS

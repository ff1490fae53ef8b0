import pytest

from liverseg.storage.s3.retry_policy import Attempts, RetryPolicy


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def retry_policy(clock: Clock, seconds: float = 120.0) -> RetryPolicy:
    return RetryPolicy(seconds, "the server", monotonic=clock, sleep=clock.sleep)


def test_a_minute_of_failures_is_outlasted_and_reported_in_two_lines(clock, lines):
    shared = retry_policy(clock)
    attempts = Attempts(shared)
    while clock.now < 60:
        assert attempts.again("status 503")
    shared.succeeded()
    shared.succeeded()
    assert lines == [
        "the server: status 503; waiting for it",
        f"the server answers again after {clock.now:.1f} s (status 503)",
    ]
    assert clock.now < 66


def test_every_cause_has_one_line(clock, lines):
    shared = retry_policy(clock)
    for cause in ("connection refused", "connection refused", "status 503", "status 503"):
        Attempts(shared).again(cause)
    shared.succeeded()
    assert [line.split(";")[0] for line in lines[:2]] == [
        "the server: connection refused",
        "the server: status 503",
    ]
    assert lines[2].endswith("(connection refused, status 503)")
    assert len(lines) == 3


def test_a_second_outage_is_reported_again(clock, lines):
    shared = retry_policy(clock)
    for _ in range(2):
        Attempts(shared).again("status 503")
        shared.succeeded()
    assert len(lines) == 4


def test_retries_end_when_the_policy_s_seconds_are_used_up(clock):
    attempts = Attempts(retry_policy(clock, 7.0))
    tries = 0
    while attempts.again("status 503"):
        tries += 1
    assert clock.now == pytest.approx(7.0)
    assert tries < 10


def test_a_policy_of_0_seconds_has_one_attempt(clock):
    assert not Attempts(retry_policy(clock, 0.0)).again("status 503")
    assert clock.now == 0


def test_an_outage_beyond_the_policy_s_seconds_costs_later_requests_one_attempt_each(clock, lines):
    shared = retry_policy(clock, 7.0)
    first = Attempts(shared)
    while first.again("status 503"):
        pass
    clock.now += 100.0
    before = clock.now
    assert not Attempts(shared).again("status 503")
    assert clock.now == before
    assert len(lines) == 1
    shared.succeeded()
    assert Attempts(shared).again("status 503")


def test_a_request_that_alone_fails_has_an_end_though_others_succeed(clock):
    shared = retry_policy(clock, 7.0)
    attempts = Attempts(shared)
    while attempts.again("status 500"):
        shared.succeeded()
    assert clock.now == pytest.approx(7.0)

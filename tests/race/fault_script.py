"""What can go wrong in a simulated race, written down before it starts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from liverseg.race.records.job import Job


class Crash(BaseException):
    """Raised by a store instead of a write: whoever was writing dies on the spot (kill -9)."""


@dataclass(frozen=True)
class Killed:
    """The trainer of `seed` at `rung` ends with `exit_code` when it gets to `iteration`.

    It writes nothing at or after that iteration: exit code 0 at the target is a lost report.
    """

    seed: int
    rung: int
    iteration: int
    exit_code: int = -9
    attempts: tuple[int, ...] = (0,)
    """The attempts that it hits."""
    deleted: bool = False
    """Somebody deletes its job at its end, so that the platform no longer knows the name."""


@dataclass(frozen=True)
class NodeLost:
    """The node of `seed` at `rung` is cut off when the trainer gets to `iteration`.

    The job counts as ended, exit code unknown, and cannot be cancelled; the trainer continues to
    write until it sees that it has a successor.
    """

    seed: int
    rung: int
    iteration: int
    attempts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class SlowStart:
    """The image of `seed` at `rung` takes this long to pull."""

    seed: int
    rung: int
    seconds: float
    attempts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class SlowNode:
    """The trainer of `seed` at `rung` needs `factor` times as long for an iteration."""

    seed: int
    rung: int
    factor: float
    attempts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Hangs:
    """The trainer of `seed` at `rung` stands still from `iteration` on, and never ends.

    At its target it has reported, and does not end either.
    """

    seed: int
    rung: int
    iteration: int
    attempts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class ApiAway:
    """From `start`, virtual seconds after the beginning, the platform answers nobody.

    A job that is submitted then is started all the same, half of the time: a reply that is lost.
    """

    start: float
    seconds: float


Fault = Killed | NodeLost | SlowStart | SlowNode | Hangs | ApiAway


JobFault = TypeVar("JobFault", Killed, NodeLost, SlowStart, SlowNode, Hangs)


def hitting(job: Job, kind: type[JobFault], faults: Iterable[Fault]) -> JobFault | None:
    """Return the first fault of a kind that hits this job."""
    for fault in faults:
        if not isinstance(fault, kind) or job.attempt not in fault.attempts:
            continue
        if (fault.seed, fault.rung) == (job.seed, job.rung):
            return fault
    return None

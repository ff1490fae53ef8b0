"""The seam between the race and what runs trainers: processes, Kubernetes Jobs or a simulation."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from liverseg.race.facts import RungName, job_name, rung_name
from liverseg.settings import SINGLE_SEED

# Exit codes of a trainer; everything else, and every other signal, is an infrastructure failure.
REPORTED = 0
INTERRUPTED = 75
ORPHANED = 76
SETTINGS_DIFFER = 77
NOT_FINITE = 78

_NAME = re.compile(
    r"lv-(?P<study>[^-]+)-s(?P<seed>\d{4})-(?:r(?P<rung>\d+)|single)-a(?P<attempt>\d+)"
)


@dataclass(frozen=True)
class Job:
    """One attempt of one seed to reach one rung."""

    study: str
    seed: int
    rung: int
    attempt: int
    iterations: int
    """The target, counted from the start of the training."""
    name: str
    """The same for every controller, so that a job that exists is adopted, not doubled."""

    @classmethod
    def of(cls, study: str, seed: int, rung: int, attempt: int, iterations: int) -> "Job":
        """Return the job with its name; seed 9999 is A2, whose rung is the last."""
        name = job_name(study, seed, rung_name(seed, rung), attempt)
        return cls(study, seed, rung, attempt, iterations, name)

    @property
    def rung_name(self) -> RungName:
        """The rung in keys and on the trainer's command line."""
        return rung_name(self.seed, self.rung)


@dataclass(frozen=True)
class JobState:
    """What an executor knows of a job that was submitted once."""

    name: str
    running: bool
    """Running or about to run: it occupies a place."""
    exit_code: int | None = None
    """None: running, or not known; negative: killed by that signal."""
    started: float | None = None
    """Unix time from which it had its place, by the clock of its machine, where it is known."""
    ended: float | None = None
    """Unix time of the end by the clock of the trainer's machine, where it is known."""
    message: str = ""
    """Where its output is to be read and, of an ended job, the last line of it."""
    waits_for: str = ""
    """What keeps it from its place, in the platform's words; empty: nothing, or not known."""


@dataclass(frozen=True)
class JobName:
    """The parts of a job's name."""

    study: str
    seed: int
    rung: RungName
    attempt: int


@functools.lru_cache(maxsize=65_536)
def parse_job_name(name: str) -> JobName | None:
    """Return the parts of a name that `Job.of` made, or None for any other name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    rung: RungName = "single" if found["rung"] is None else int(found["rung"])
    if (rung == "single") != (int(found["seed"]) == SINGLE_SEED):
        return None
    return JobName(found["study"], int(found["seed"]), rung, int(found["attempt"]))


class Executor(Protocol):
    """Runs trainers. Jobs outlive the controller; a later one finds them under their names."""

    def submit(self, job: Job) -> bool:
        """Start the job and return True; a name that exists is left as it is: False."""
        ...

    def states(self) -> Mapping[str, JobState]:
        """Return every job that was ever submitted and is still known, by name."""
        ...

    def cancel(self, name: str) -> None:
        """Stop the job, gently first; called again and again until it has ended.

        An unknown name or an ended job is no error.
        """

    def interrupt(self, study: str) -> None:
        """The study is stopped or cannot go on: let its trainers save and end."""

    def leave(self, study: str) -> None:
        """Somebody ends the controller: stop what would not be left to another one."""

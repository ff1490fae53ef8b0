"""The port between the race and what runs trainers: processes, Kubernetes Jobs or a simulation."""

from collections.abc import Mapping
from typing import Protocol

from liverseg.race.records.job import Job, JobState


def arguments(job: Job) -> list[str]:
    """Return the options of `liverseg train` that name the attempt, alike for all executors."""
    return [
        f"--study={job.study}",
        f"--nonce={job.nonce}",
        f"--seed={job.seed}",
        f"--rung={job.at.rung}",
        f"--attempt={job.attempt}",
    ]


class Executor(Protocol):
    """Runs trainers. Jobs outlive the controller; a later one finds them under their names."""

    local: bool
    """It is this machine: a user who interrupts the controller (Ctrl-C) means its trainers too."""

    def submit(self, job: Job) -> bool:
        """Start the job and return True; a name that exists is left as it is: False."""
        ...

    def states(self) -> Mapping[str, JobState]:
        """Return every job that was ever submitted and is still known, by name."""
        ...

    def last_line(self, name: str) -> str:
        """Return the last line that an ended job wrote; "" where there is none, or it runs."""
        ...

    def cancel(self, name: str) -> None:
        """Stop the job, gently first, at every call until it ends; an unknown one is no error."""

    def remove(self, name: str) -> None:
        """Delete a job that has ended, with its log; an unknown name is no error."""

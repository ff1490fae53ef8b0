"""A trainer's job as the race knows it: what it has to do, and what its platform says of it."""

from dataclasses import dataclass

from liverseg.core.race.ledger import RungName
from liverseg.race.records.job_name import job_name, rung_name

# Of a trainer that its platform ended (SIGTERM), which says nothing of its seed (decide/state.py).
ASKED_TO_END = -15


@dataclass(frozen=True)
class Job:
    """One attempt of one seed to reach one rung."""

    study: str
    nonce: str
    """Of the study in its store (race/records/study.py)."""
    seed: int
    rung: int
    attempt: int
    iterations: int
    """The target, counted from the start of the training."""
    name: str
    """The same for every controller, so that a job that exists is adopted, not doubled."""

    @classmethod
    def of(
        cls, study: str, nonce: str, seed: int, rung: int, attempt: int, iterations: int
    ) -> "Job":
        """Return the job with its name; seed 9999 is the baseline, whose rung is the last."""
        name = job_name(study, nonce, seed, rung_name(seed, rung), attempt)
        return cls(study, nonce, seed, rung, attempt, iterations, name)

    @property
    def rung_name(self) -> RungName:
        """The rung in keys and on the trainer's command line."""
        return rung_name(self.seed, self.rung)


@dataclass(frozen=True)
class JobState:
    """What an executor knows of a job that was submitted once."""

    name: str
    running: bool
    """Running or about to run: it occupies a GPU."""
    exit_code: int | None = None
    """None: running, or not known; negative: killed by that signal."""
    started: float | None = None
    """Unix time from which it occupied a GPU, by the clock of its machine, where it is known."""
    ended: float | None = None
    """Unix time of the end by the clock of the trainer's machine, where it is known."""
    message: str = ""
    """Where its output is to be read, and what the platform says of its end."""
    waits_for: str = ""
    """Why it does not run yet, in the platform's words; empty: it runs, or has ended."""
    suspended: bool = False
    """Held back without a process: its queue has not admitted it yet, or has evicted it."""

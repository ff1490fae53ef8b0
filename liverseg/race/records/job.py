"""A trainer's job: its name, written and parsed here and nowhere else; its work; its state."""

import functools
import re
from dataclasses import dataclass, replace

from liverseg.core.race.ledger import RungName
from liverseg.settings import BASELINE_SEED

# Of a trainer that its platform ended (SIGTERM), which says nothing of its seed (decide/state.py).
ASKED_TO_END = -15
_NAME = re.compile(
    r"lv-(?P<study>[^-]+)-(?P<nonce>[^-]+)-s(?P<seed>\d{4})-(?:r(?P<rung>\d+)|baseline)-a(?P<attempt>\d+)"
)


@dataclass(frozen=True)
class JobName:
    """The parts of a job's name; the nonce tells the study from the same in another store."""

    study: str
    nonce: str
    seed: int
    rung: RungName
    attempt: int

    def belongs_to(self, study: str, nonce: str) -> bool:
        """Return whether it is a job of this study in this store."""
        return (self.study, self.nonce) == (study, nonce)


@dataclass(frozen=True)
class Job:
    """One attempt of one seed to reach one rung."""

    study: str
    nonce: str
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
        unnamed = cls(study, nonce, seed, rung, attempt, iterations, "")
        return replace(unnamed, name=job_name(study, nonce, seed, unnamed.rung_name, attempt))

    @property
    def rung_name(self) -> RungName:
        """The rung in keys and on the trainer's command line."""
        return "baseline" if self.seed == BASELINE_SEED else self.rung


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


def job_name(study: str, nonce: str, seed: int, rung: RungName, attempt: int) -> str:
    """Return the name of an attempt; valid as a Kubernetes name (lower case, "-", below 63)."""
    rung_part = "baseline" if rung == "baseline" else f"r{rung}"
    return f"lv-{study}-{nonce}-s{seed:04d}-{rung_part}-a{attempt}"


@functools.lru_cache(maxsize=65_536)
def parse_job_name(name: str) -> JobName | None:
    """Return the parts of a name that `job_name` made, or None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None or (match["rung"] is None) != (int(match["seed"]) == BASELINE_SEED):
        return None
    rung: RungName = "baseline" if match["rung"] is None else int(match["rung"])
    return JobName(match["study"], match["nonce"], int(match["seed"]), rung, int(match["attempt"]))

"""A trainer's job: its name, written and parsed here and nowhere else; its work; its state."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from liverseg.core.race.ledger import RungName
from liverseg.race.records.study import Study
from liverseg.settings import BASELINE_SEED

# Of a trainer that its platform ended (SIGTERM), which says nothing of its seed (decide/state.py).
ASKED_TO_END = -15
_NAME = re.compile(
    r"lv-(?P<study>[^-]+)-(?P<nonce>[^-]+)-s(?P<seed>\d{4})-(?:r(?P<rung>\d+)|baseline)-a(?P<attempt>\d+)"
)


class Attempt(NamedTuple):
    """One attempt of one seed to reach one rung."""

    rung: RungName
    seed: int
    attempt: int


@dataclass(frozen=True)
class Job:
    """What an executor is given to run an attempt."""

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
        return replace(unnamed, name=job_name(study, nonce, unnamed.at))

    @property
    def at(self) -> Attempt:
        """The attempt, with the rung as keys and the trainer's command line have it."""
        rung: RungName = "baseline" if self.seed == BASELINE_SEED else self.rung
        return Attempt(rung, self.seed, self.attempt)


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


def job_name(study: str, nonce: str, at: Attempt) -> str:
    """Return the name of an attempt's job; valid in Kubernetes (lower case, "-", below 63).

    The nonce tells the study from the same one in another store.
    """
    rung = "baseline" if at.rung == "baseline" else f"r{at.rung}"
    return f"lv-{study}-{nonce}-s{at.seed:04d}-{rung}-a{at.attempt}"


@functools.lru_cache(maxsize=65_536)
def parse_job_name(name: str) -> tuple[str, str, Attempt] | None:
    """Return study, nonce and attempt of a name that `job_name` made; None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None or (match["rung"] is None) != (int(match["seed"]) == BASELINE_SEED):
        return None
    rung: RungName = "baseline" if match["rung"] is None else int(match["rung"])
    return match["study"], match["nonce"], Attempt(rung, int(match["seed"]), int(match["attempt"]))


def own_jobs(study: Study, states: Mapping[str, JobState]) -> dict[Attempt, JobState]:
    """Return the jobs of this study in this store, of all those that a platform knows by name."""
    named = [(parse_job_name(name), states[name]) for name in sorted(states)]
    mine = (study.id, study.nonce)
    return {name[2]: state for name, state in named if name is not None and name[:2] == mine}

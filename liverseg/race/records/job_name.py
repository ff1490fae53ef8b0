"""The name of a job: written and parsed here, and nowhere else."""

import functools
import re
from dataclasses import dataclass

from liverseg.core.race.ledger import RungName
from liverseg.settings import BASELINE_SEED

_NAME = re.compile(
    r"lv-(?P<study>[^-]+)-(?P<nonce>[^-]+)-s(?P<seed>\d{4})-(?:r(?P<rung>\d+)|baseline)-a(?P<attempt>\d+)"
)


@dataclass(frozen=True)
class JobName:
    """The parts of a job's name."""

    study: str
    nonce: str
    """Of the study in its store: tells it from the same study in another one."""
    seed: int
    rung: RungName
    attempt: int

    def belongs_to(self, study: str, nonce: str) -> bool:
        """Return whether it is a job of this study in this store."""
        return (self.study, self.nonce) == (study, nonce)


@functools.lru_cache(maxsize=65_536)
def parse_job_name(name: str) -> JobName | None:
    """Return the parts of a name that `Job.of` made, or None for any other name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    rung: RungName = "baseline" if match["rung"] is None else int(match["rung"])
    if (rung == "baseline") != (int(match["seed"]) == BASELINE_SEED):
        return None
    return JobName(match["study"], match["nonce"], int(match["seed"]), rung, int(match["attempt"]))


def rung_name(seed: int, rung: int) -> RungName:
    """Return the name under which the facts of this seed's rung are kept."""
    return "baseline" if seed == BASELINE_SEED else rung


def job_name(study: str, nonce: str, seed: int, rung: RungName, attempt: int) -> str:
    """Return the name of an attempt; valid as a Kubernetes name (lower case, "-", below 63)."""
    rung_part = "baseline" if rung == "baseline" else f"r{rung}"
    return f"lv-{study}-{nonce}-s{seed:04d}-{rung_part}-a{attempt}"

"""A study so small that its networks train in a second: three cases, two seeds, two rungs."""

# The network is imported where it is needed: the fast lane's tests make studies without it.
import time
from collections.abc import Mapping

import numpy as np

from liverseg.core.data.case import PreparedCase, encode
from liverseg.core.data.dataset import CaseRecord, Dataset, Role
from liverseg.core.volumes.volume import Geometry
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.records import facts
from liverseg.race.records.job import Job, JobState
from liverseg.race.records.study import Study, open_study
from liverseg.settings import Settings, from_mapping
from liverseg.steps.data.cases import CASE_FILE, case_prefix
from liverseg.steps.race import race
from liverseg.steps.results import disagreement, postprocess
from liverseg.storage import bundle
from liverseg.storage.memory import MemoryStore
from liverseg.storage.port import ObjectStore

SETTINGS = from_mapping(
    {
        "network": {
            "features": [4, 6],
            "z_convolutions": [False, True],
            "pooling": [[1, 2, 2]],
            "batch_norm_momentum": 0.2,
        },
        "training": {"patch": [8, 32, 32], "validation_interval": 2},
        "race": {"seeds": 2, "minimum_iterations": 3, "maximum_iterations": 6},
    }
)
SHAPE = (8, 40, 36)


def prepared(seed: int, factor: float = 1.0) -> PreparedCase:
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    liver = np.broadcast_to((y - 20) ** 2 + (x - 18) ** 2 < 14**2, SHAPE).copy()
    lesion = (np.abs(z - 4) < 2) & ((y - 18) ** 2 + (x - 16) ** 2 < 16) & liver
    image = ((rng.normal(0.6, 0.1, SHAPE) - 0.4 * lesion) * factor).astype(np.float32)
    spacing = (4.0, 1.0, 1.0)
    geometry = Geometry(SHAPE, spacing, (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1), (1, 2, 3))
    return PreparedCase(
        image, liver, liver, {"R1": lesion}, spacing, liver, {"R1": lesion}, geometry
    )


def study_in(store: ObjectStore, settings: Settings = SETTINGS, factor: float = 1.0) -> Study:
    roles: tuple[Role, ...] = ("training", "validation", "test")
    records = []
    for seed, role in enumerate(roles):
        key = f"key{seed}"
        case = prepared(seed, factor)
        bundle.commit(store, case_prefix(key), {CASE_FILE: encode(case)})
        files = {"image": "i", "liver": "l", "R1": "r"}
        records.append(
            CaseRecord(role, role, role, key, ("R1",), files, SHAPE, (4.0, 1.0, 1.0), True)
        )
    return open_study(store, settings, Dataset(tuple(records)))


class InThisProcess:
    """An executor that trains at once; the real trainer, without a process of its own."""

    local = True

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._ended: dict[str, JobState] = {}

    def submit(self, job: Job) -> bool:
        from liverseg.steps.training import train

        if job.name in self._ended:
            return False
        names = (job.study, job.seed, job.at.rung, job.attempt)
        code = train.run(self._store, *names, orphan_grace=3600, now=time.time)
        self._ended[job.name] = JobState(job.name, running=False, exit_code=code)
        return True

    def states(self) -> Mapping[str, JobState]:
        return self._ended

    def last_line(self, name: str) -> str:
        return ""

    def cancel(self, name: str) -> None:
        """Nothing ever runs."""


def finished_study(store: ObjectStore | None = None) -> tuple[ObjectStore, Study]:
    """Train both arms to the end and segment the test case with each, and with both seeds."""
    from liverseg.steps.results import predict

    store = MemoryStore() if store is None else store
    study = study_in(store)
    race.run(store, InThisProcess(store), study, "baseline", Capacity(2, True))
    for arm, weights_sha256 in facts.ended_arms(store, study.id).items():
        predict.run(store, study, arm)
        postprocess.run(store, study, weights_sha256)
    assert predict.ensemble(store, study) == []
    disagreement.run(store, study)
    return store, study

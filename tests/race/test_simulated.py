import pytest

from liverseg.race.executors.port import Executor
from liverseg.race.records import facts, spans
from liverseg.race.records.job import Attempt, Job
from liverseg.simulation.simulated_executor import SimulatedExecutor
from liverseg.simulation.simulated_trainer import invented_score
from liverseg.steps.report.curves import read_curves
from liverseg.storage import bundle, record
from liverseg.storage.memory import MemoryStore
from tests.race.executor_contract import ExecutorContract
from tests.race.fault_script import Crash, Killed
from tests.race.rehearsal import CURVE_ENTRIES, NONCE, Rehearsal, report_key


class TestSimulatedExecutor(ExecutorContract):
    def make(self) -> Executor:
        rehearsal = Rehearsal(gpus=3)
        self.study = rehearsal.study.id
        return rehearsal.executor

    def pass_time(self, executor: Executor) -> None:
        assert isinstance(executor, SimulatedExecutor)
        executor.sleep(1)


def job(rehearsal: Rehearsal, rung: int = 0, attempt: int = 0) -> Job:
    return Job.of(rehearsal.study.id, NONCE, 3, rung, attempt, 2 ** (rung + 1))


def finish(rehearsal: Rehearsal, job: Job) -> int | None:
    rehearsal.executor.submit(job)
    rehearsal.executor.sleep(100)
    return rehearsal.executor.states()[job.name].exit_code


def test_a_trainer_leaves_the_facts_that_a_real_one_leaves():
    rehearsal = Rehearsal()
    assert finish(rehearsal, job(rehearsal)) == 0
    store, study = rehearsal.store, rehearsal.study.id
    report = record.read(store, report_key(store, study, 0, 3, 0))
    assert report["best_jaccard"] == pytest.approx(0.32)
    assert bundle.load(store, report["checkpoint"])["best.safetensors"]
    (point,) = read_curves(store, study)[3]
    assert point["iteration"] == 2
    assert set(point) == set(CURVE_ENTRIES)
    events = spans.events(store, rehearsal.study, Attempt(0, 3, 0))
    assert [event.rpartition("/")[2].split("_")[:2] for event in events] == [
        ["end", "2"], ["sample", "0"], ["sample", "2"], ["start", "1000000.000"],
    ]  # fmt: skip


def test_a_trainer_resumes_from_the_newest_checkpoint():
    rehearsal = Rehearsal()
    finish(rehearsal, job(rehearsal))
    before = rehearsal.executor.now
    rehearsal.executor.submit(job(rehearsal, rung=1))
    # 1 second to start and 2 iterations; from its start it would be 4.
    rehearsal.executor.sleep(3)
    assert rehearsal.executor.states()[job(rehearsal, rung=1).name].ended == before + 3


@pytest.mark.parametrize("exit_code", [-9, 78, 0])
def test_a_fault_ends_a_trainer_before_it_writes_anything_more(exit_code):
    rehearsal = Rehearsal(faults=[Killed(3, 0, iteration=2, exit_code=exit_code)])
    assert finish(rehearsal, job(rehearsal)) == exit_code
    prefix = f"studies/{rehearsal.study.id}/rungs/0/reports/0003-a0_"
    assert not rehearsal.store.keys(prefix)
    assert finish(rehearsal, job(rehearsal, attempt=1)) == 0


def test_a_trainer_whose_write_crashes_is_killed():
    def crash(number: int, key: str) -> None:
        if key.endswith("/manifest.json"):
            raise Crash

    rehearsal = Rehearsal(MemoryStore(before_write=crash))
    assert finish(rehearsal, job(rehearsal)) == -9
    assert facts.checkpoints(rehearsal.store, rehearsal.study.id, 3) == []


def test_invented_scores_are_jaccards_and_do_not_change():
    scores = [invented_score(s, i) for s in range(16) for i in range(500, 80_001, 500)]
    assert all(0 <= score <= 1 for score in scores)
    assert invented_score(3, 5_000) == pytest.approx(0.3422, abs=1e-4)

"""What every executor promises; an adapter's test class makes one, and jobs for it."""

from liverseg.race.executors.port import Executor
from liverseg.race.records.job import Job
from tests.race.rehearsal import NONCE


class ExecutorContract:
    def make(self) -> Executor:
        """An executor of study "study1"."""
        raise NotImplementedError

    def pass_time(self, executor: Executor) -> None:
        """Let a little time pass, in which a short job makes progress."""
        raise NotImplementedError

    def short(self, seed: int = 0) -> Job:
        """A job that ends by itself, but not before time was let pass."""
        return Job.of(self.study, self.nonce, seed, 0, 0, 2)

    study = "study1"
    nonce = NONCE

    def wait(self, executor: Executor, name: str) -> None:
        for _ in range(1000):
            if not executor.states()[name].running:
                return
            self.pass_time(executor)
        raise AssertionError(f"{name} did not end")

    def test_a_job_that_nobody_submitted_is_unknown(self):
        assert dict(self.make().states()) == {}

    def test_a_submitted_job_runs_at_once_and_occupies_a_gpu(self):
        executor = self.make()
        assert executor.submit(self.short())
        state = executor.states()[self.short().name]
        assert state.running
        assert state.exit_code is None
        self.wait(executor, self.short().name)

    def test_a_job_that_succeeded_has_ended_with_exit_code_0_and_stays_known(self):
        executor = self.make()
        executor.submit(self.short())
        self.wait(executor, self.short().name)
        state = executor.states()[self.short().name]
        assert (state.name, state.running, state.exit_code) == (self.short().name, False, 0)
        assert state.ended is not None

    def test_a_name_that_runs_is_left_as_it_is(self):
        executor = self.make()
        assert executor.submit(self.short())
        assert not executor.submit(self.short())
        assert len(executor.states()) == 1
        self.wait(executor, self.short().name)

    def test_a_name_that_has_ended_is_not_started_again(self):
        executor = self.make()
        executor.submit(self.short())
        self.wait(executor, self.short().name)
        assert not executor.submit(self.short())
        assert not executor.states()[self.short().name].running

    def test_several_jobs_run_side_by_side(self):
        executor = self.make()
        jobs = [self.short(seed) for seed in range(3)]
        for job in jobs:
            executor.submit(job)
        assert sorted(executor.states()) == [job.name for job in jobs]
        assert all(state.running for state in executor.states().values())
        for job in jobs:
            self.wait(executor, job.name)

    def test_a_cancelled_job_ends_and_not_with_exit_code_0(self):
        executor = self.make()
        executor.submit(self.short())
        executor.cancel(self.short().name)
        self.wait(executor, self.short().name)
        assert executor.states()[self.short().name].exit_code != 0

    def test_cancelling_twice_or_after_the_end_is_no_error(self):
        executor = self.make()
        executor.submit(self.short())
        executor.cancel(self.short().name)
        executor.cancel(self.short().name)
        self.wait(executor, self.short().name)
        executor.cancel(self.short().name)

    def test_cancelling_an_unknown_name_is_no_error(self):
        executor = self.make()
        executor.cancel("lv-study1-0a1b2c3d-s0000-r0-a0")
        assert dict(executor.states()) == {}

    def test_a_job_that_runs_or_that_nobody_knows_has_no_last_line(self):
        executor = self.make()
        executor.submit(self.short())
        assert executor.last_line(self.short().name) == ""
        assert executor.last_line(self.short(1).name) == ""
        self.wait(executor, self.short().name)

    def test_a_job_that_ended_is_removed_and_one_that_runs_stays(self):
        executor = self.make()
        executor.submit(self.short())
        executor.remove(self.short(1).name)
        self.wait(executor, self.short().name)
        executor.submit(self.short(1))
        executor.remove(self.short().name)
        assert executor.states()[self.short(1).name].running
        self.wait(executor, self.short(1).name)
        executor.remove(self.short(1).name)
        assert not any(state.running for state in executor.states().values())

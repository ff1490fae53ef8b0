import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from liverseg.errors import StoreError
from liverseg.race.controller import Controller
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.executors.port import Executor
from liverseg.race.executors.process import ProcessExecutor
from liverseg.race.records.job import Job
from liverseg.settings import BASELINE_SEED
from tests.race.executor_contract import ExecutorContract
from tests.race.rehearsal import NONCE, Rehearsal

JOB = Job.of("study1", NONCE, 7, 2, 0, 20_000)
SLEEPS = "import time; time.sleep(30)"
# For a busy machine; nothing here takes a second.
DEADLINE_SECONDS = 120.0


def make(work: Path, script: str, **options: Any) -> ProcessExecutor:
    environment = {"PATH": os.environ["PATH"], "LIVERSEG_TEST": "set"}
    command = [sys.executable, "-S", "-c", script]
    return ProcessExecutor(work, command, environment, **options)


def wait(executor: ProcessExecutor, name: str = JOB.name) -> int | None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if not executor.states()[name].running:
            return executor.states()[name].exit_code
        time.sleep(0.01)
    raise AssertionError(f"{name} did not end")


def wait_for(path: Path, text: str = "\n") -> str:
    """Return what is in the file, once that has `text` in it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if path.exists() and text in path.read_text():
            return path.read_text()
        time.sleep(0.01)
    raise AssertionError(f"{path} with {text!r} did not appear")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "jobs" / JOB.name


class TestProcessExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def _work(self, tmp_path):
        self.work = tmp_path

    def make(self) -> Executor:
        # However busy the machine, a job ends only once a test lets time pass.
        until = f"while not os.path.exists({str(self.work / 'passes')!r}): time.sleep(0.01)"
        return make(self.work, f"import os, time\n{until}")

    def pass_time(self, executor: Executor) -> None:
        (self.work / "passes").touch()
        time.sleep(0.05)
        # A job that is submitted later has to wait for its own time.
        (self.work / "passes").unlink()


def test_the_trainer_gets_its_job_as_arguments_and_only_the_given_environment(tmp_path, folder):
    executor = make(tmp_path, "import os, sys; print(sys.argv[1:], sorted(os.environ))")
    executor.submit(JOB)
    assert wait(executor) == 0
    log = (folder / "log.txt").read_text()
    expected = [
        "--study=study1",
        f"--nonce={NONCE}",
        "--seed=7",
        "--rung=2",
        "--attempt=0",
        "--device-index=0",
    ]
    assert str(expected)[:-1] in log
    assert "'--clock-offset=" in log
    assert "'LIVERSEG_TEST'" in log
    assert "HOME" not in log


def test_the_baseline_is_started_with_its_own_rung_name(tmp_path):
    baseline = Job.of("study1", NONCE, BASELINE_SEED, 4, 0, 80_000)
    executor = make(tmp_path, "import sys; print(sys.argv[1:])")
    executor.submit(baseline)
    wait(executor, baseline.name)
    log = (tmp_path / "jobs" / baseline.name / "log.txt").read_text()
    assert "'--seed=9999', '--rung=baseline'" in log


def test_a_failure_is_reported_with_its_exit_code_its_last_line_and_its_log(tmp_path, folder):
    executor = make(tmp_path, "import sys; print('went wrong\\n'); sys.exit(78)")
    executor.submit(JOB)
    assert wait(executor) == 78
    assert executor.last_line(JOB.name) == "went wrong"
    assert executor.states()[JOB.name].message == f"log: {folder / 'log.txt'}"


def test_a_killed_trainer_is_reported_with_its_signal(tmp_path):
    executor = make(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    executor.submit(JOB)
    assert wait(executor) == -9


def test_a_later_executor_knows_how_a_job_ended(tmp_path):
    executor = make(tmp_path, "import sys; sys.exit(75)")
    executor.submit(JOB)
    wait(executor)
    later = make(tmp_path, SLEEPS)
    assert later.states()[JOB.name].exit_code == 75
    assert later.states()[JOB.name].ended is not None
    assert not later.submit(JOB)


def test_the_trainer_has_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(tmp_path, folder):
    executor = make(tmp_path, SLEEPS)
    executor.submit(JOB)
    pid = int(wait_for(folder / "pid"))
    assert os.getsid(pid) == pid != os.getsid(0)
    executor.cancel(JOB.name)
    assert wait(executor) == -15


def controller_that_is_killed(work: Path, script: str) -> None:
    """Start the job from a process of its own, which then dies as by kill -9."""
    source = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "from liverseg.race.records.job import Job\n"
        "from liverseg.race.executors.process import ProcessExecutor\n"
        f"command = [sys.executable, '-S', '-c', {script!r}]\n"
        f"executor = ProcessExecutor(Path({str(work)!r}), command, dict(os.environ))\n"
        "executor.submit(Job.of('study1', '0a1b2c3d', 7, 2, 0, 20_000))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", source], check=False)
    assert done.returncode == -9


def test_a_trainer_outlives_a_killed_controller_and_is_adopted(tmp_path, folder):
    controller_that_is_killed(tmp_path, SLEEPS)
    later = make(tmp_path, SLEEPS)
    assert later.states()[JOB.name].running
    assert not later.submit(JOB)
    wait_for(folder / "pid")
    later.cancel(JOB.name)
    assert wait(later) is None


def test_an_adopted_trainer_that_ended_unseen_has_no_known_exit_code(tmp_path):
    controller_that_is_killed(tmp_path, "import sys; print('last words'); sys.exit(3)")
    later = make(tmp_path, SLEEPS)
    assert wait(later) is None
    assert later.last_line(JOB.name) == "last words"


def test_a_job_whose_controller_died_before_starting_it_can_be_started(tmp_path, folder):
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    executor = make(tmp_path, "")
    assert dict(executor.states()) == {}
    assert executor.submit(JOB)
    assert wait(executor) == 0


def test_nobody_is_signalled_once_the_trainer_is_gone_and_its_pid_may_be_anothers(tmp_path, folder):
    bystander = subprocess.Popen([sys.executable, "-S", "-c", SLEEPS], start_new_session=True)
    try:
        folder.mkdir(parents=True)
        (folder / "lock").touch()
        (folder / "pid").write_text(f"{bystander.pid}\n")
        executor = make(tmp_path, SLEEPS, grace_seconds=0.0)
        executor.cancel(JOB.name)
        executor.cancel(JOB.name)
        time.sleep(0.05)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_trainer_that_does_not_listen_is_killed_after_the_grace(tmp_path, folder):
    now = [0.0]
    deaf = (
        "import signal, time, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('heard', flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.01)"
    )
    environment = {"PATH": os.environ["PATH"]}
    command = [sys.executable, "-S", "-c", deaf]
    executor = ProcessExecutor(
        tmp_path, command, environment, grace_seconds=10.0, monotonic=lambda: now[0]
    )
    executor.submit(JOB)
    wait_for(folder / "log.txt", "ready")
    assert executor.last_line(JOB.name) == ""
    executor.cancel(JOB.name)
    # However long it takes on a busy machine: a kill before it would leave nothing in the log.
    wait_for(folder / "log.txt", "heard")
    now[0] = 9.0
    executor.cancel(JOB.name)
    assert executor.states()[JOB.name].running
    now[0] = 10.0
    executor.cancel(JOB.name)
    assert wait(executor) == -signal.SIGKILL
    assert (folder / "log.txt").read_text().count("heard") == 1


def test_a_work_folder_that_cannot_be_made_is_a_store_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot start a trainer"):
        make(tmp_path / "file", SLEEPS).submit(JOB)


def test_concurrent_trainers_have_device_indices_of_their_own_and_hand_them_on(tmp_path):
    executor = make(tmp_path, "import time; time.sleep(30)")
    jobs = [Job.of("study1", NONCE, seed, 0, 0, 10) for seed in range(4)]

    def device_index(job: Job) -> str:
        start = json.loads((tmp_path / "jobs" / job.name / "start.json").read_text())
        return str(start["device_index"])

    for job in jobs[:3]:
        executor.submit(job)
    assert [device_index(job) for job in jobs[:3]] == ["0", "1", "2"]
    os.killpg(int(wait_for(tmp_path / "jobs" / jobs[1].name / "pid")), signal.SIGKILL)
    while executor.states()[jobs[1].name].running:
        time.sleep(0.01)
    # Another controller, which is nobody's parent, hands on the device index that has become free.
    make(tmp_path, "import time; time.sleep(30)").submit(jobs[3])
    assert device_index(jobs[3]) == "1"
    for job in jobs:
        executor.cancel(job.name)


def test_an_attempt_gets_another_device_index_than_the_one_before_it(tmp_path: Path) -> None:
    executor = make(tmp_path, "print('done')")
    first, second = (Job.of("study1", NONCE, seed, 2, 0, 20_000) for seed in (7, 8))
    for job in (first, second):
        executor.submit(job)
    for job in (first, second):
        wait(executor, job.name)
    again = Job.of("study1", NONCE, 7, 2, 1, 20_000)
    executor.submit(again)
    wait(executor, again.name)
    starts = [tmp_path / "jobs" / job.name / "start.json" for job in (first, second, again)]
    assert [json.loads(path.read_text())["device_index"] for path in starts] == [0, 1, 1]


def test_a_clock_that_is_set_forward_two_hours_makes_no_job_longer(tmp_path: Path) -> None:
    ahead = [0.0]

    def executor(script: str) -> ProcessExecutor:
        return make(tmp_path, script, wall=lambda: time.time() + ahead[0])

    running = executor("import sys; print(sys.argv[-1].split('=')[1]); sys.stdin.read()")
    running.submit(JOB)
    ahead[0] = 7200.0
    wait(running)
    state = running.states()[JOB.name]
    assert state.started is not None
    assert state.ended is not None
    assert 0 < state.ended - state.started < DEADLINE_SECONDS
    # The trainer is told the time by which it was started, from before the step.
    offset = float((tmp_path / "jobs" / JOB.name / "log.txt").read_text())
    assert offset + time.monotonic() == pytest.approx(time.time(), abs=60.0)
    later = executor("")
    assert later.states()[JOB.name] == state
    # A job that is started afterwards has the machine's new time.
    second = Job.of("study1", NONCE, 8, 2, 0, 20_000)
    later.submit(second)
    wait(later, second.name)
    started = later.states()[second.name].started
    assert started is not None
    assert started > time.time() + 7000


def test_how_long_a_job_took_is_not_known_after_the_machine_was_booted_again(
    tmp_path: Path, folder: Path
) -> None:
    executor = make(tmp_path, "import time; time.sleep(0.5)")
    executor.submit(JOB)
    start = json.loads((folder / "start.json").read_text())
    (folder / "start.json").write_text(json.dumps(start | {"boot_id": "another"}))
    wait(executor)
    state = executor.states()[JOB.name]
    assert (state.exit_code, state.ended) == (0, None)


def test_ctrl_c_on_a_controller_ends_its_trainers(tmp_path: Path) -> None:
    rehearsal, executor = Rehearsal(), make(tmp_path, SLEEPS)

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    controller = Controller(
        rehearsal.store, executor, rehearsal.study, Capacity(2, False), sleep=interrupted
    )
    with pytest.raises(KeyboardInterrupt):
        controller.run("end")
    assert [wait(executor, name) for name in executor.states()] == [-15, -15]

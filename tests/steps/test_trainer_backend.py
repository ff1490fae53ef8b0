"""The trainers that a study gets, as real processes."""

import os
import time
from pathlib import Path

import pytest

from liverseg.errors import StudyError
from liverseg.race.records.job import Job, JobState
from liverseg.steps.race.trainer_backend import TrainerBackend, metrics_address
from liverseg.storage.folder import FolderStore
from tests.steps.tiny_study import study_in

DEADLINE_SECONDS = 60.0


def ended(store: FolderStore, job: Job) -> JobState:
    """Return how the trainer of a job has ended."""
    executor, _ = TrainerBackend("process").executor(store, study_in(store))
    executor.submit(job)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while executor.states()[job.name].running:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return executor.states()[job.name]


@pytest.mark.slow
def test_a_file_in_the_working_directory_hides_no_module_from_a_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, packages = tmp_path / "here", tmp_path / "packages"
    for folder, name, code in (
        (here, "random.py", "raise SystemExit('the user\\'s random.py')"),
        (packages, "sitecustomize.py", "print('from PYTHONPATH', flush=True)"),
    ):
        folder.mkdir()
        (folder / name).write_text(code)
    monkeypatch.chdir(here)
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(packages), *filter(None, [known])]))
    # Of a study that is not there: the trainer has been started, and says so.
    job = Job.of("0123456789ab", "abcdefgh", 0, 0, 0, 2)
    store = FolderStore(tmp_path / "store")
    state = ended(store, job)
    assert state.exit_code == StudyError.exit_code, state.message
    assert "from PYTHONPATH" in (store.work / "jobs" / job.name / "log.txt").read_text()


@pytest.mark.parametrize(
    ("port", "environment", "address"),
    [
        (None, {}, ("127.0.0.1", 0)),
        (9000, {}, ("127.0.0.1", 9000)),
        (None, {"KUBERNETES_SERVICE_HOST": "a", "POD_IP": "10.1.2.3"}, ("10.1.2.3", 9464)),
        (0, {"KUBERNETES_SERVICE_HOST": "a", "POD_IP": "10.1.2.3"}, ("10.1.2.3", 0)),
    ],
)
def test_metrics_are_served_by_pods_and_elsewhere_where_they_are_asked_for(
    port: int | None, environment: dict[str, str], address: tuple[str, int]
) -> None:
    assert metrics_address(port, environment) == address

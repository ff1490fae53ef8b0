import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from liverseg.errors import SettingsError, StudyError
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.executors.process import ProcessExecutor
from liverseg.race.records.study import open_study
from liverseg.settings import BASELINE_SEED, from_mapping
from liverseg.steps.race import race
from liverseg.storage.folder import FolderStore
from liverseg.storage.memory import MemoryStore
from tests.race.rehearsal import DATASET, SETTINGS, Rehearsal

# Stands in for the trainer: writes one checkpoint and its report, in another process.
TRAINER = """
import sys
from pathlib import Path
from liverseg.race.records import facts
from liverseg.race.records.reports import write_report
from liverseg.race.records.study import load_study
from liverseg.storage import bundle
from liverseg.storage.folder import FolderStore
values = dict(word.split("=", 1) for word in sys.argv[2:])
store, study = FolderStore(Path(sys.argv[1])), values["--study"]
seed, attempt = int(values["--seed"]), int(values["--attempt"])
rung = values["--rung"] if values["--rung"] == "baseline" else int(values["--rung"])
iterations = load_study(store, study).rungs[-1 if rung == "baseline" else rung].iterations
prefix = facts.checkpoint_prefix(study, seed, iterations, attempt)
files = {"best.safetensors": f"{seed} {iterations}".encode()}
bundle.commit(store, prefix, files)
weights = bundle.manifest(store, prefix).files["best.safetensors"].sha256
jaccard = seed / 10_000
write_report(store, study, facts.Report(
    seed, rung, attempt, jaccard, iterations, jaccard, iterations, {}, prefix,
    bundle.manifest_sha256(store, prefix), weights))
"""


def run(rehearsal: Rehearsal, until: int | str) -> dict:
    return race.run(
        rehearsal.store,
        rehearsal.executor,
        rehearsal.study,
        until,
        Capacity(2, True),
        clock=rehearsal.executor.clock,
        sleep=rehearsal.executor.sleep,
    )


def test_the_race_ends_with_a_status_that_json_can_hold():
    rehearsal = Rehearsal()
    status = json.loads(json.dumps(run(rehearsal, "baseline")))
    assert status["study"] == rehearsal.study.id
    assert [r["iterations"] for r in status["rungs"]] == [2, 4, 8]
    assert [r["seeds"] for r in status["rungs"]] == [[0, 1, 2, 3], [2, 3], [3]]
    assert [r["promoted"] for r in status["rungs"]] == [[3, 2], [3], [3]]
    assert status["winner"]["seed"] == 3
    assert status["winner"]["jaccard"] == pytest.approx(0.38)
    assert len(status["winner"]["sha256"]) == 64
    assert status["baseline"]["seed"] == BASELINE_SEED
    assert status["ledger"]["saved_iterations"] == 4 * 8 - (4 * 2 + 2 * 2 + 4)
    assert status["started"] == 4 + 2 + 1 + 1


def test_a_second_run_says_that_nothing_was_trained():
    rehearsal = Rehearsal()
    first = run(rehearsal, "baseline")
    second = run(rehearsal, "baseline")
    assert second["started"] == 0
    assert second["winner"] == first["winner"]


def test_the_status_of_a_race_on_its_way_tells_who_leads_and_who_is_awaited():
    rehearsal = Rehearsal()
    run(rehearsal, 0)
    status = race.status(rehearsal.store, rehearsal.study.id)
    assert status["winner"] is status["baseline"] is None
    first, second, third = status["rungs"]
    assert first["decided"]
    assert first["pruned"] == [1, 0]
    assert [r["seed"] for r in first["reports"]] == [3, 2, 1, 0]
    assert second["seeds"] == second["waiting"] == [2, 3]
    assert third["seeds"] == []


def test_the_status_of_a_study_that_was_never_run_is_empty():
    rehearsal = Rehearsal()
    status = race.status(rehearsal.store, rehearsal.study.id)
    assert status["rungs"][0]["waiting"] == [0, 1, 2, 3]
    assert status["ledger"]["spent_iterations"] == 0


def test_without_a_study_there_is_no_status():
    with pytest.raises(StudyError, match="no study 'nosuch'"):
        race.status(MemoryStore(), "nosuch")


def test_no_gpus_are_refused_before_anything_is_written():
    rehearsal = Rehearsal()
    before = dict(rehearsal.store.objects)
    with pytest.raises(SettingsError, match=r"gpus \(0\)"):
        race.run(rehearsal.store, rehearsal.executor, rehearsal.study, "end", Capacity(0, False))
    assert rehearsal.store.objects == before


def test_sigterm_ends_the_race_as_ctrl_c_does():
    rehearsal = Rehearsal()
    before = signal.getsignal(signal.SIGTERM)

    def sleep(seconds: float) -> None:
        rehearsal.executor.sleep(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        race.run(
            rehearsal.store,
            rehearsal.executor,
            rehearsal.study,
            "end",
            Capacity(2, False),
            clock=rehearsal.executor.clock,
            sleep=sleep,
        )
    assert not any(state.running for state in rehearsal.executor.states().values())
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_race_runs_outside_the_main_thread():
    rehearsal = Rehearsal()
    thread = threading.Thread(target=run, args=(rehearsal, "end"))
    thread.start()
    thread.join()
    assert race.status(rehearsal.store, rehearsal.study.id)["winner"]["seed"] == 3


def with_processes(root: Path, until: int | str = "end") -> dict:
    """Run the race of 3 seeds on a folder with a process a trainer, two at a time."""
    store = FolderStore(root)
    study = open_study(store, from_mapping({"race": {"seeds": 3}}, SETTINGS), DATASET)
    command = [sys.executable, "-c", TRAINER, str(root)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    executor = ProcessExecutor(root / ".local", command, environment)
    capacity = Capacity(2, until == "baseline")
    return race.run(store, executor, study, until, capacity, poll_seconds=0.02)


@pytest.mark.slow
def test_the_race_runs_with_processes_on_a_folder(tmp_path):
    root = tmp_path / "store with ümlaut"
    status = with_processes(root, "baseline")
    assert [r["promoted"] for r in status["rungs"]] == [[2], [2], [2]]
    assert (status["winner"]["seed"], status["baseline"]["seed"]) == (2, BASELINE_SEED)
    assert status["started"] == 3 + 1 + 1 + 1
    assert with_processes(root, "baseline")["started"] == 0
    assert not any(key.startswith(".") for key in FolderStore(root).keys(""))


@pytest.mark.slow
def test_kill_9_of_controllers_and_a_trainer_changes_neither_survivors_nor_winner(tmp_path):
    calm, root = with_processes(tmp_path / "calm"), tmp_path / "killed"
    source = (
        "import sys; from pathlib import Path\n"
        "from tests.steps.test_race import with_processes\n"
        "with_processes(Path(sys.argv[1]))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for number in range(3):
        before = set(root.glob(".local/jobs/*/pid"))
        controller = subprocess.Popen([sys.executable, "-c", source, str(root)], env=environment)
        deadline = time.monotonic() + 20
        # Each controller lives until it has started something new.
        while set(root.glob(".local/jobs/*/pid")) == before and controller.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        controller.kill()
        controller.wait()
        if number == 0:
            for path in root.glob(".local/jobs/*/pid"):
                with suppress(ProcessLookupError, ValueError):
                    os.kill(int(path.read_text()), signal.SIGKILL)
    status = with_processes(root)
    assert status["winner"] == calm["winner"]
    assert [r["promoted"] for r in status["rungs"]] == [r["promoted"] for r in calm["rungs"]]

"""Two people start the same study: the second one waits, and continues when the first one dies."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from liverseg.errors import Fenced
from liverseg.race.records import facts
from liverseg.race.records.snapshot import read_failures
from liverseg.settings import from_mapping, to_mapping
from liverseg.steps.data.cases import save_dataset
from liverseg.storage.folder import FolderStore
from tests.steps.tiny_study import SETTINGS, study_in
from tests.waiting import until

WAIT_SECONDS = 240.0
# Long enough to be interrupted while it trains.
LONG = from_mapping(
    {
        "training": {"validation_interval": 50},
        "race": {"minimum_iterations": 100, "maximum_iterations": 150},
    },
    SETTINGS,
)


class Runs:
    """`liverseg study run` of one study, as often as wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, FolderStore(folder / "store")
        self.study = study_in(self.store, LONG)
        save_dataset(self.store, self.study.dataset)
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *more: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.folder / f"log{len(self._started)}.txt"
        settings = {k: v for k, v in to_mapping(self.study.settings).items() if k != "preset"}
        command = [
            sys.executable, "-m", "liverseg.cli", "study", "run", "--store", str(self.store.root),
            "--dataset", self.study.dataset.digest, "--settings", json.dumps(settings),
            "--no-compare-baseline", *more,
        ]  # fmt: skip
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        self._started.append(process)
        return process, log

    def heartbeat(self) -> facts.Heartbeat | None:
        return facts.read_heartbeat(self.store, self.study.id)

    def begun(self) -> list[Path]:
        return list(self.store.root.glob(".local/jobs/*/pid"))

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
        for path in self.store.root.glob(".local/jobs/*/pid"):
            with suppress(ProcessLookupError, ValueError):
                os.killpg(int(path.read_text()), signal.SIGKILL)


@pytest.fixture
def runs(tmp_path: Path):
    running = Runs(tmp_path)
    yield running
    running.end()


@pytest.mark.slow
def test_the_second_run_waits_and_continues_within_seconds_of_the_firsts_death(runs: Runs) -> None:
    first, _ = runs.start()
    until(runs.begun)
    owner = runs.heartbeat().owner
    second, log = runs.start()
    until(lambda: f"waiting up to 10 min for {owner}" in log.read_text())
    time.sleep(3)
    assert runs.heartbeat().owner == owner
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)  # a zombie until it is waited for
    died = time.monotonic()
    until(lambda: runs.heartbeat().owner != owner)
    assert time.monotonic() - died < 30
    assert second.wait(WAIT_SECONDS) == 0
    assert facts.read_result(runs.store, runs.study.id) is not None
    # The trainers of the first one were adopted.
    assert read_failures(runs.store, runs.study.id) == []
    assert runs.heartbeat().generation == 2
    assert runs.heartbeat().released


@pytest.mark.slow
def test_to_take_over_fences_the_first_run_with_an_exit_code_of_its_own(runs: Runs) -> None:
    first, log = runs.start()
    until(runs.begun)
    owner = runs.heartbeat().owner
    second, _ = runs.start("--take-over")
    assert first.wait(WAIT_SECONDS) == Fenced.exit_code == 9
    assert "was taken over by another controller" in log.read_text()
    assert runs.heartbeat().owner != owner
    # The next one waits for no minute: this one says that it ends.
    second.send_signal(signal.SIGTERM)
    assert second.wait(WAIT_SECONDS) != 0
    assert runs.heartbeat().released
    assert read_failures(runs.store, runs.study.id) == []

"""kill -9 of a trainer, of the controller and of the whole command changes no weight."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from liverseg.steps.data import phantom
from tests.waiting import until

# Long enough to be caught in the middle, small enough for a minute.
SETTINGS = {
    "network": {"features": [2, 4, 4]},
    "training": {"validation_interval": 5},
    "race": {"seeds": 4, "minimum_iterations": 20, "maximum_iterations": 80},
}
WAIT_SECONDS = 120.0


def words(data: Path, store: Path) -> list[str]:
    options = {
        "--data": data,
        "--split": data / "split.json",
        "--store": store,
        "--preset": "demo",
        "--settings": json.dumps(SETTINGS),
    }
    flat = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", "liverseg.cli", "pipeline", "run", *flat]


def status(store: Path) -> dict[str, Any]:
    line = [sys.executable, "-m", "liverseg.cli", "study", "status", "--store", store, "--json"]
    values: dict[str, Any] = json.loads(subprocess.check_output(line))
    return values


def processes(*parts: str) -> list[int]:
    """Return the processes whose command line holds all of the parts."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if all(part in line for part in parts):
            pids.append(int(folder.name))
    return pids


def checkpoints(store: Path) -> list[Path]:
    return list(store.glob("studies/*/checkpoints/*/*/manifest.json"))


@pytest.mark.slow
def test_kill_9_of_trainer_controller_and_command_ends_with_the_same_weights(
    tmp_path: Path,
) -> None:
    data, undisturbed, store = tmp_path / "data", tmp_path / "undisturbed", tmp_path / "store"
    phantom.run(data, 3, 0)
    subprocess.run(words(data, undisturbed), check=True, capture_output=True)
    url = store.as_uri()

    with subprocess.Popen(words(data, store), stdout=subprocess.DEVNULL) as command:
        until(lambda: checkpoints(store))
        # A trainer: the controller starts its next attempt, from the last checkpoint.
        os.kill(until(lambda: processes("train", url, "--attempt"))[0], signal.SIGKILL)
        until(lambda: list(store.glob("studies/*/rungs/0/failures/*.json")))
        # The controller: its task fails and the command with it; its trainers go on.
        os.kill(until(lambda: processes("executor_main", "rung", url))[0], signal.SIGKILL)
        assert command.wait(WAIT_SECONDS) != 0

    with subprocess.Popen(words(data, store), stdout=subprocess.DEVNULL) as command:
        until(lambda: list(store.glob("studies/*/rungs/1/reports/*.json")))
        command.kill()
    # What it leaves behind, its controller and trainers, still runs when the next one starts.
    subprocess.run(words(data, store), check=True, capture_output=True)

    expected, actual = status(undisturbed), status(store)
    assert actual["winner"] == expected["winner"]
    assert actual["baseline"] == expected["baseline"]
    assert [r["promoted"] for r in actual["rungs"]] == [r["promoted"] for r in expected["rungs"]]
    assert expected["ledger"]["repeated"]["iterations"] == 0
    # One trainer was killed: it loses what it did since its last checkpoint.
    assert actual["ledger"]["repeated"]["iterations"] <= SETTINGS["training"]["validation_interval"]
    until(lambda: not processes("train", url))

"""The same study in a bucket and in a folder has the same winner, to the bit."""

import json
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from liverseg.race.audit.replay import replay
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.executors.process import ProcessExecutor
from liverseg.settings import Settings, from_mapping
from liverseg.steps.data import phantom
from liverseg.steps.race import race
from liverseg.storage.folder import FolderStore
from liverseg.storage.memory import MemoryStore
from liverseg.storage.open import open_store
from liverseg.storage.port import LocatedStore
from tests.s3_server import KINDS, S3Server
from tests.steps.tiny_study import SETTINGS as TINY
from tests.steps.tiny_study import InThisProcess, study_in
from tests.storage.faulty_proxy import Fault, FaultyProxy

SETTINGS = {
    "network": {"features": [2, 4, 4]},
    "training": {"validation_interval": 2},
    "race": {"seeds": 4, "minimum_iterations": 2, "maximum_iterations": 8},
}


def run(*words: object) -> str:
    line = [sys.executable, "-m", "liverseg.cli", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def winner(data: Path, store: str) -> tuple[dict[str, Any], str]:
    """Run a study; return its winner and what was printed."""
    of = ("--data", data, "--split", data / "split.json")
    settings = ("--preset", "demo", "--settings", json.dumps(SETTINGS), "--no-compare-baseline")
    output = run("pipeline", "run", *of, "--store", store, *settings)
    status = json.loads(run("study", "status", "--store", store, "--json"))
    return status["winner"], output


@pytest.mark.slow
def test_a_study_in_a_bucket_has_the_winner_of_the_same_study_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phantom.run(tmp_path / "data", 3, 0)
    server = S3Server(KINDS[0], tmp_path)
    server.start()
    try:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        url = server.store().url
        in_bucket, output = winner(tmp_path / "data", url)
        in_folder, _ = winner(tmp_path / "data", str(tmp_path / "store"))
    finally:
        server.stop()
    assert in_bucket == in_folder
    report = next(line for line in output.splitlines() if line.startswith("report: "))
    assert Path(report.removeprefix("report: ")).stat().st_size > 10_000
    secret = server.environment["AWS_SECRET_ACCESS_KEY"].encode()
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept
    assert not any(secret in path.read_bytes() for path in kept)


AWAY_SECONDS = 60.0
CUT_SECONDS = 15.0
FOUR = from_mapping(
    {
        "race": {"seeds": 4, "minimum_iterations": 100, "maximum_iterations": 400},
        "training": {"validation_interval": 10},
    },
    TINY,
)


TWO = from_mapping(
    {
        "race": {"seeds": 2, "minimum_iterations": 20, "maximum_iterations": 40},
        "training": {"validation_interval": 5},
    },
    TINY,
)


def raced(
    store: LocatedStore, settings: Settings = FOUR, trainers: Mapping[str, str] | None = None
) -> tuple[list[list[int]], str]:
    """Race the seeds in processes; return who was promoted, and the winner's weights.

    `trainers` is the environment of the trainers; None: that of this process.
    """
    study = study_in(store, settings)
    command = [sys.executable, "-m", "liverseg.cli", "train", "--store", store.url]
    executor = ProcessExecutor(store.work, command, trainers)
    status = race.run(store, executor, study, "end", Capacity(2, False))
    assert list(replay(store, study.id).findings) == []
    assert not any("/failures/" in key for key in store.keys(f"studies/{study.id}/"))
    return [rung["promoted"] for rung in status["rungs"]], status["winner"]["sha256"]


@pytest.mark.slow
def test_a_race_outlives_a_minute_without_its_store_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if KINDS == ("named",):
        pytest.skip("a server that is named is not ours to stop")
    expected = raced(FolderStore(tmp_path / "store"))
    server = S3Server(KINDS[0], tmp_path)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    caplog.set_level(logging.WARNING, "liverseg")
    server.start()
    try:
        store = open_store(server.store().url)
        looker = open_store(store.url)
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(raced, store)
            while not any("/curves/" in key for key in looker.keys("studies/")):
                assert not future.done(), future.result()
                time.sleep(0.1)
            server.stop()
            time.sleep(AWAY_SECONDS)
            server.start()
            assert future.result() == expected
    finally:
        server.stop()
    messages = [r.getMessage() for r in caplog.records if r.name == "liverseg"]
    # The controller's words; every trainer has its own log.
    assert len(messages) == 2, messages
    assert "connection refused; waiting for it" in messages[0]
    assert "answers again after" in messages[1]


@pytest.mark.slow
@pytest.mark.parametrize("who", ["controller", "trainers"])
def test_a_race_outlives_a_way_to_its_store_that_is_cut_for_some(
    who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = S3Server(KINDS[0], tmp_path)
    if not server.endpoint.startswith("http://"):
        pytest.skip("faults are put between client and server, which https does not allow")
    calm = MemoryStore()
    study = study_in(calm, TWO)
    expected = race.run(calm, InThisProcess(calm), study, "end", Capacity(2, False))
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.WARNING, "liverseg")
    server.start()
    try:
        with FaultyProxy(server.endpoint).running() as proxy, ThreadPoolExecutor(1) as pool:
            ways = {"controller": server.endpoint, "trainers": server.endpoint} | {who: proxy.url}
            looker = server.store()
            # It gives up so early that it is the controller who waits.
            store = server.opened(looker.url, ways["controller"], outage_seconds=2.0)
            environment = os.environ | {"AWS_ENDPOINT_URL": ways["trainers"]}
            future = pool.submit(raced, store, TWO, environment)
            while not any("/curves/" in key for key in looker.keys("studies/")):
                assert not future.done(), future.result()
                time.sleep(0.1)
            proxy.faults.append(Fault("refuse", times=math.inf))
            time.sleep(CUT_SECONDS)
            proxy.faults.clear()
            assert future.result()[1] == expected["winner"]["sha256"]
    finally:
        server.stop()
    messages = [r.getMessage() for r in caplog.records if r.name == "liverseg"]
    logs = {"controller": messages}
    logs["trainers"] = [
        line
        for path in store.work.glob("jobs/*/log.txt")
        for line in path.read_text().splitlines()
        if "waiting for it" in line or "answers again" in line
    ]
    away, back = ([words in line for line in logs[who]] for words in ("waiting", "answers again"))
    assert sum(away) == sum(back) > 0
    # Of the trainers at most two saw it.
    assert sum(away) <= {"controller": 1, "trainers": 2}[who]
    assert logs["trainers" if who == "controller" else "controller"] == []

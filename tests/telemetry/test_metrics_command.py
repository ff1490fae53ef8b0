"""`liverseg metrics` serves a store, says what is wrong, and shows what a real race has cost."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from liverseg.cli.metrics import metrics
from liverseg.errors import SettingsError
from liverseg.race.decide.cost import ledger
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.storage.folder import FolderStore
from liverseg.telemetry.metrics_server import MetricsServer
from liverseg.telemetry.study_collector import StudyCollector
from tests.race.rehearsal import Rehearsal
from tests.steps.test_second_controller import Runs, runs  # noqa: F401 - a fixture
from tests.telemetry.test_study_collector import Series, by_label, parsed, value
from tests.waiting import until


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder store with a race that has ended."""
    rehearsal = Rehearsal()
    rehearsal.run()
    for key, data in rehearsal.store.objects.items():
        path = tmp_path / "store" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "store"


def test_once_prints_openmetrics_and_out_writes_it(root: Path, tmp_path: Path) -> None:
    printed = CliRunner().invoke(metrics, ["--store", str(root), "--once"], catch_exceptions=False)
    study = next((root / "studies").iterdir()).name
    assert value(parsed(printed.output.encode()), "decisions_total", study=study) == 3
    out = tmp_path / "metrics.prom"
    CliRunner().invoke(metrics, ["--store", str(root), "--out", str(out)], catch_exceptions=False)
    assert parsed(out.read_bytes()) == parsed(printed.output.encode())
    inside = str(root / "studies" / "metrics.prom")
    with pytest.raises(SettingsError, match="lies among what the store"):
        CliRunner().invoke(metrics, ["--store", str(root), "--out", inside], catch_exceptions=False)


def test_a_port_in_use_is_named_with_what_to_do(root: Path) -> None:
    with MetricsServer(StudyCollector(FolderStore(root)), "127.0.0.1", 0) as server:
        arguments = ["--store", str(root), "--port", str(server.port)]
        message = f"cannot listen at port {server.port} of 127.0.0.1: Address already in use; .*--p"
        with pytest.raises(SettingsError, match=message):
            CliRunner().invoke(metrics, arguments, catch_exceptions=False)


def scraped(port: int) -> Series:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        text = response.read().decode()
    values: Series = {}
    for name, labels, number in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        values[name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))] = float(number)
    return values


@pytest.mark.slow
def test_the_exporter_serves_a_store_until_it_is_asked_to_end(root: Path) -> None:
    command = [sys.executable, "-m", "liverseg.cli", "metrics", "--store", str(root), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = re.search(r":(\d+)/metrics", process.stdout.readline())
        assert port is not None
        assert by_label(scraped(int(port[1])), "seeds", "state")["winner"] == 1
        with urlopen(f"http://127.0.0.1:{port[1]}/readyz", timeout=30) as response:
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_gpu_seconds_are_the_ledgers_also_where_controllers_were_killed(runs: Runs) -> None:  # noqa: F811
    with MetricsServer(StudyCollector(runs.store), "127.0.0.1", 0) as exporter:
        user = ("--user", "ada", "--gpu-price", "2.5", "--metrics-port")
        first, log = runs.start(*user, "0")
        until(runs.begun)
        first.kill()
        first.wait()
        second, log = runs.start(*user, str(exporter.port))
        # Its port is in use, which ends nothing.
        until(lambda: "no metrics: cannot listen" in log.read_text())
        until(lambda: runs.heartbeat().generation == 2)
        third, log = runs.start("--user", "grace", "--metrics-port", "1", "--take-over")
        assert second.wait(240) == 9
        assert third.wait(240) == 0
        time.sleep(1.1)
        series = scraped(exporter.port)
    cost = ledger(runs.study, SnapshotReader(runs.store, runs.study.id).read())
    seconds = by_label(series, "gpu_seconds", "outcome")
    for outcome, number in seconds.items():
        assert number == pytest.approx(cost[outcome]["seconds"], rel=0.01, abs=0.01)
    assert sum(seconds.values()) == pytest.approx(cost["seconds"], rel=0.01)
    assert by_label(series, "study_info", "user") == {"grace": 1}
    assert value(series, "lease_generation", study=runs.study.id) == 3
    assert by_label(series, "attempts_total", "cause")["completed"] == 3

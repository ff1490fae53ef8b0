"""Asking a Prometheus, and drawing what it says; with a real one where it is installed."""

import dataclasses
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring import ask, draw
from monitoring.ask import Answer, Prometheus
from monitoring.dashboards import DASHBOARDS
from monitoring.dashboards.panels import Query
from tests.monitoring.names import TOOLS

PROGRAMS = {
    "2.42": TOOLS / "prometheus-debian" / "usr" / "bin" / "prometheus",
    "3.16": TOOLS / "prometheus",
}
START_SECONDS = 60.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=PROGRAMS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus without anything to scrape."""
    program = PROGRAMS[request.param]
    if not program.exists():
        pytest.skip(f"there is no {program}; `make metrics-servers` installs it")
    folder: Path = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text("scrape_configs: []\n", encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--config.file=prometheus.yml", f"--web.listen-address={address}"]
    options.append("--storage.tsdb.path=data")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *options], cwd=folder, stdout=log, stderr=log)
    try:
        _wait_for(address, process)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            if Prometheus(f"http://{address}").get("query", query="1")["status"] == "success":
                return
        except (OSError, ValueError):  # it says in plain text that it is not ready
            time.sleep(0.1)
    pytest.fail(f"no Prometheus at {address} after {START_SECONDS} s")


def test_no_query_is_wrong_promql_for_either_version(url):
    server = Prometheus(url)
    errors = {w: server.ask(w, q, 0.1).error for w, q in ask.questions()}
    assert {where: error for where, error in errors.items() if error} == {}


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        (Query("vector(1)"), False),
        (Query("liverseg_nothing"), True),
        (Query("liverseg_nothing", absent="it is a test"), False),
        (Query("rate(liverseg_nothing", absent="it is a test"), True),
    ],
)
def test_a_query_that_fails_or_is_empty_without_a_reason_is_wrong(url, query, wrong):
    assert Prometheus(url).ask("here", query, 0.1).wrong is wrong


def test_a_prometheus_without_metrics_is_a_failure(url, capsys):
    assert ask.main(url, 0.1) == 1
    assert "race: State" in capsys.readouterr().out


def test_every_dashboard_is_drawn_with_answers_and_without(tmp_path):
    curve = {"metric": {"study": "s"}, "values": [[1.0, "1"], [61.0, "2.5"]]}
    for dashboard in DASHBOARDS:
        answers = {
            p.title: [
                Answer(p.title, dataclasses.replace(q, absent="none"), [curve] * (i % 3))
                for q in p.queries
            ]
            for i, p in enumerate(dashboard.panels)
        }
        draw.draw(dashboard, answers, tmp_path / "picture.png")
        assert (tmp_path / "picture.png").stat().st_size > 10_000

"""The commands that talk to a KFP server, as processes, with a server over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.kfp_server import KfpServer
from tests.waiting import until

NEEDED = ("--param", "data=s3://bucket/data", "--param", "store=s3://bucket/store")
CRON = ("--cron", "0 0 2 * * *")


@pytest.fixture
def server() -> Iterator[KfpServer]:
    server = KfpServer()
    yield server
    server.stop()


def environment(server: KfpServer, folder: Path) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("KF_", "KFP_"))}
    return kept | {"KF_PIPELINES_ENDPOINT": server.host, "HOME": str(folder)}


class Commands:
    """Runs `liverseg pipeline ...` against a server."""

    def __init__(self, server: KfpServer, folder: Path) -> None:
        self.environment = environment(server, folder)

    def line(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "liverseg.cli", "pipeline", *map(str, words)]

    def __call__(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.line(*words), capture_output=True, text=True, check=False, env=self.environment
        )

    def json(self, *words: object) -> dict[str, Any]:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        output: dict[str, Any] = json.loads(done.stdout)
        return output


@pytest.fixture
def pipeline(server: KfpServer, tmp_path: Path) -> Commands:
    return Commands(server, tmp_path)


def until_run(server: KfpServer) -> str:
    """Return the id of the first run."""
    identity: str = until(lambda: server.held["runs"])[0]["run_id"]
    return identity


def details(**states: str) -> dict[str, Any]:
    tasks = [{"display_name": n.replace("_", "-"), "state": s} for n, s in states.items()]
    return {"run_details": {"task_details": tasks}}


@pytest.mark.slow
def test_the_same_upload_twice_makes_nothing_new(server: KfpServer, pipeline: Commands) -> None:
    first, second = pipeline.json("upload"), pipeline.json("upload")
    assert (first.pop("created"), second.pop("created")) == (True, False)
    assert first == second
    assert [v["display_name"] for v in server.held["versions"]] == [first["name"]]
    assert f"version {first['name']} is there already" in pipeline("upload").stdout


@pytest.mark.slow
def test_a_run_is_submitted_once_with_its_values(server: KfpServer, pipeline: Commands) -> None:
    words = ("submit", *NEEDED, "--param", "gpus=8", "--service-account", "mine")
    output = pipeline.json(*words, "--experiment", "trials")
    (run,) = server.held["runs"]
    assert (output["run"], output["created"]) == (run["run_id"], True)
    assert output["link"] == f"{server.host}/#/runs/details/{run['run_id']}"
    assert run["runtime_config"]["parameters"]["gpus"] == 8
    assert run["service_account"] == "mine"
    assert server.held["experiments"][0]["display_name"] == "trials"
    again = pipeline(*words, "--experiment", "trials")
    assert again.returncode == 0
    assert f"run {run['run_id']} runs already" in again.stdout
    assert len(server.held["runs"]) == 1


@pytest.mark.slow
def test_waiting_tells_what_happens_and_ends_with_the_run(
    server: KfpServer, pipeline: Commands
) -> None:
    run = pipeline.json("submit", *NEEDED)["run"]
    server.progress(
        run,
        {"state": "RUNNING", **details(scan="RUNNING", scan_driver="SUCCEEDED")},
        {"state": "SUCCEEDED", **details(scan="SUCCEEDED", rung="SUCCEEDED", summary="SUCCEEDED")},
    )
    done = pipeline("submit", *NEEDED, "--wait")
    assert done.returncode == 0, done.stderr
    lines = [line.partition(" ")[2] for line in done.stdout.splitlines()[2:]]
    assert lines == [
        "scan: running", "scan: succeeded", "rung 0: succeeded", "summary: succeeded",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_that_fails_is_an_error_that_names_the_task(
    server: KfpServer, pipeline: Commands
) -> None:
    run = pipeline.json("submit", *NEEDED)["run"]
    states = details(scan="SUCCEEDED", rung_2="FAILED", summary="SUCCEEDED")
    server.progress(run, {"state": "FAILED", "error": {"code": 1, "message": "exit 6"}, **states})
    done = pipeline("submit", *NEEDED, "--wait", "--json")
    assert done.returncode == 6
    assert done.stdout == ""
    error = done.stderr.splitlines()[-1]
    assert error == f"error: the run ended as failed in rung 1: exit 6; see {server.host}/#/" + (
        f"runs/details/{run}"
    )


@pytest.mark.slow
def test_interrupting_leaves_the_run_and_the_same_command_finds_it(
    server: KfpServer, pipeline: Commands
) -> None:
    line = pipeline.line("submit", *NEEDED, "--wait")
    with subprocess.Popen(
        line, env=pipeline.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as command:
        run = until_run(server)
        while server.requests[-1] != ("GET", f"/apis/v2beta1/runs/{run}"):
            time.sleep(0.05)
        command.send_signal(signal.SIGINT)
        assert command.wait(30) == 130
    server.progress(run, {"state": "SUCCEEDED"})
    assert pipeline.json("submit", *NEEDED, "--wait")["run"] == run
    assert len(server.held["runs"]) == 1


@pytest.mark.slow
def test_a_schedule_is_made_once_and_replaced(server: KfpServer, pipeline: Commands) -> None:
    first = pipeline.json("schedule", *CRON, *NEEDED)
    second = pipeline.json("schedule", *CRON, *NEEDED)
    assert (first["created"], second["created"]) == (True, False)
    assert first["schedule"] == second["schedule"]
    done = pipeline("schedule", "--cron", "0 0 3 * * *", *NEEDED)
    assert "schedule liverseg-training (0 0 3 * * *)\n" in done.stdout
    (kept,) = server.held["recurringruns"]
    assert kept["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert (kept["no_catchup"], int(kept["max_concurrency"])) == (True, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("submit", *NEEDED, "--param", "gpu=4"), "no parameter 'gpu'; it has compare_baseline"),
        (("submit", *NEEDED, "--param", "gpus=many"), "'gpus' must be a whole number"),
        (("submit", *NEEDED[:2]), "no value for store"),
        (("submit", *NEEDED, "--param", "preset=big"), "preset 'big' is unknown"),
        (("submit", *NEEDED, "--param", 'settings={"race": {"sedes": 4}}'), "'race.sedes'"),
        (("submit", *NEEDED, "--param", 'pods={"memori": "32Gi"}'), "'pods.memori'"),
        (("submit", *NEEDED, "--param", 'pods={"node_selector": {"a": 1}}'), "node_selector"),
        (("submit", *NEEDED, "--task-memory", "4 GB"), "memory '4 GB'"),
        (("schedule", "--cron", "0 2 * * *", *NEEDED), "has 5 fields"),
        (("schedule", "--cron", "0 0 99 * * *", *NEEDED), "400 Schedule cron"),
    ],
)
def test_what_is_wrong_is_reported_before_anything_starts(
    words: tuple[str, ...], message: str, server: KfpServer, pipeline: Commands
) -> None:
    done = pipeline(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not server.held["runs"] + server.held["recurringruns"]


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_the_platforms_error(pipeline: Commands) -> None:
    for host in ("http://127.0.0.1:1", "http://no-such-host.invalid"):
        done = pipeline("upload", "--host", host)
        assert done.returncode == 7
        assert done.stderr.startswith(f"error: no KFP server answers at {host}: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_token_comes_from_the_variable_or_a_pods_file(
    server: KfpServer, pipeline: Commands, tmp_path: Path
) -> None:
    bearer = "open sesame"
    server.token = bearer
    assert pipeline("upload").returncode == 7
    (tmp_path / "token").write_text(bearer, encoding="utf-8")
    ways = ("KFP_EXISTING_TOKEN", bearer), ("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    for name, value in ways:
        pipeline.environment[name] = value
        assert pipeline("upload").returncode == 0
        del pipeline.environment[name]

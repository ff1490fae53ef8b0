"""The same study in a bucket and in a folder has the same winner, to the bit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from liverseg.steps import phantom
from tests.s3_server import KINDS, S3Server

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
    settings = ("--preset", "demo", "--settings", json.dumps(SETTINGS), "--no-compare-single")
    told = run("pipeline", "run", *of, "--store", store, *settings)
    found = json.loads(run("study", "status", "--store", store, "--json"))
    return found["winner"], told


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
        in_bucket, told = winner(tmp_path / "data", url)
        in_folder, _ = winner(tmp_path / "data", str(tmp_path / "store"))
    finally:
        server.stop()
    assert in_bucket == in_folder
    report = next(line for line in told.splitlines() if line.startswith("report: "))
    assert Path(report.removeprefix("report: ")).stat().st_size > 10_000
    secret = server.environment["AWS_SECRET_ACCESS_KEY"].encode()
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept
    assert not any(secret in path.read_bytes() for path in kept)

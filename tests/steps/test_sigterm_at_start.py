"""SIGTERM to a trainer that is still starting: the real command, also as PID 1 of a pod."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from liverseg.exit_codes import ExitCode

# The first process of a container gets no signal that it has no handler for (pid_namespaces(7)).
AS_PID_1 = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
ATTEMPT = ["--store=store", "--study=0123456789ab", "--seed=0", "--rung=0"]
TRAIN = [sys.executable, "-m", "liverseg.cli", "train", *ATTEMPT]
# Stands for a package that a busy node takes long to read.
SLOW_IMPORT = """
import os, pathlib, time
pathlib.Path(os.environ["IMPORTING"]).touch()
time.sleep(60)
"""
DEADLINE_SECONDS = 50.0


@pytest.fixture(params=[[], AS_PID_1], ids=["process", "pid 1"])
def launcher(request: pytest.FixtureRequest) -> list[str]:
    words: list[str] = request.param
    if words and subprocess.run([*words, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine gives no namespace of its own")
    return words


@pytest.fixture(params=["click", "torch"])
def importing(
    request: pytest.FixtureRequest, launcher: list[str], tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A trainer that is about to import a package, as it is for long on a busy node."""
    packages = tmp_path / "packages"  # not in the working directory, which is no import path
    packages.mkdir()
    (packages / f"{request.param}.py").write_text(SLOW_IMPORT)
    path = f"{packages}:{os.environ.get('PYTHONPATH', '')}"
    environment = os.environ | {"PYTHONPATH": path, "IMPORTING": str(tmp_path / "importing")}
    with subprocess.Popen([*launcher, *TRAIN], env=environment, cwd=tmp_path) as process:
        try:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not (tmp_path / "importing").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert (tmp_path / "importing").exists()
            yield process
        finally:
            process.kill()


def test_it_ends_at_once_as_an_interrupted_trainer(
    importing: subprocess.Popen[bytes], launcher: list[str]
) -> None:
    pid = importing.pid
    if launcher:
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
    os.kill(pid, signal.SIGTERM)
    assert importing.wait(DEADLINE_SECONDS) == ExitCode.INTERRUPTED

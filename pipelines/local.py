"""Run the pipeline on this machine: kfp.local, every task a process, no container."""

import io
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from kfp import local

from liverseg.errors import LiversegError, StoreError
from liverseg.steps.race.race_logger import LOG_PREFIX
from liverseg.steps.task_errors import ERROR_FILE
from pipelines.training import define

LOG_FILE = "log.txt"
# Of a traceback that nobody foresaw.
SHOWN_LINES = 30


class PipelineError(LiversegError):
    """A task failed; its own message and exit code are repeated."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class OurLines(io.TextIOBase):
    """Passes our tasks' lines on to `target`; what kfp says around them goes only into `log`."""

    def __init__(self, target: TextIO, log: TextIO) -> None:
        self._target, self._log, self._rest = target, log, ""
        # The tasks of a loop write from threads of their own.
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Forward every complete line that carries our prefix, without it."""
        with self._lock:
            self._log.write(text)
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                _, prefix, ours = line.partition(LOG_PREFIX)
                if prefix:
                    self._target.write(ours + "\n")
                    self._target.flush()
        return len(text)

    def flush(self) -> None:
        """Let whoever reads the log see all of it."""
        self._log.flush()


@contextmanager
def _only_our_lines(log: TextIO, events: TextIO) -> Iterator[None]:
    """Keep kfp's pages of JSON, and its warning about images that are not its own, in the log."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(OurLines(events, log)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def _safe_path() -> Iterator[None]:
    """Let no file in the working directory hide a module of Python's own from the tasks.

    kfp starts them with `python -c` and `python -m`, which look there first, and passes on this
    process's environment; its own place for variables would put them into the compiled pipeline.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def run_here(arguments: Mapping[str, Any], work: Path, events: TextIO | None = None) -> None:
    """Run the training pipeline with `arguments`; raises PipelineError with the task's message.

    `work` is where kfp keeps what goes between tasks, where a task leaves its error, and where
    log.txt has everything that kfp and the tasks have written in this run. `events` is where the
    tasks' own lines go (default: standard output).
    """
    error_file, log_file = work / ERROR_FILE, work / LOG_FILE
    try:
        work.mkdir(parents=True, exist_ok=True)
        error_file.unlink(missing_ok=True)
        log = log_file.open("w", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"no permission to write to {work}: {error.strerror}") from error
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(work))
    with log:
        try:
            with _safe_path(), _only_our_lines(log, events or sys.stdout):
                define(None)(**arguments)
        except RuntimeError as error:
            log.flush()
            raise failure(error_file, log_file) from error


def failure(error_file: Path, log_file: Path) -> PipelineError:
    """Return what the failed task said of itself; a task that said nothing has a defect."""
    if error_file.exists():
        error = json.loads(error_file.read_text(encoding="utf-8"))
        return PipelineError(error["error"], error["exit_code"])
    lines = log_file.read_text(encoding="utf-8").splitlines()
    starts = [number for number, line in enumerate(lines) if "Traceback" in line]
    start = starts[0] if starts else max(0, len(lines) - SHOWN_LINES)
    shown = "\n".join(lines[start : start + SHOWN_LINES])
    message = f"a task failed without saying why, see {log_file}:\n{shown}"
    return PipelineError(message, LiversegError.exit_code)

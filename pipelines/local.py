"""Run the pipeline on this machine: kfp.local, every task a process, no container."""

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import local

from liverseg.errors import LiversegError, StoreError
from liverseg.steps.tasks import ERROR_FILE
from pipelines.training import training


class PipelineError(LiversegError):
    """A task failed; its own message and exit code are repeated."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_here(arguments: Mapping[str, Any], work: Path) -> None:
    """Run the training pipeline with `arguments`; raises PipelineError with the task's message.

    `work` is where kfp keeps what goes between tasks, and where a task leaves its error.
    """
    error_file = work / ERROR_FILE
    try:
        work.mkdir(parents=True, exist_ok=True)
        error_file.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"no right to write to {work}: {error.strerror}") from error
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(work))
    logging.getLogger().setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # kfp warns that our image's packages may be missing; they are this environment.
            warnings.simplefilter("ignore")
            training(**arguments)
    except RuntimeError as error:
        if not error_file.exists():
            raise PipelineError(
                f"the pipeline stopped: {error}", LiversegError.exit_code
            ) from error
        told = json.loads(error_file.read_text(encoding="utf-8"))
        raise PipelineError(told["error"], told["exit_code"]) from error

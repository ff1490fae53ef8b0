"""How an error ends a task: one line in its log, its own exit code, and a file for the command."""

import functools
import inspect
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from liverseg.errors import Fenced, LiversegError, as_ours
from liverseg.steps.race.race_logger import log, start_log
from liverseg.storage.open import open_store

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
# Where a task leaves its error for `liverseg pipeline run`, which sees only that a task failed.
ERROR_FILE = "error.json"


def task(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Log to standard output, and turn our errors into one line and their exit code."""

    @functools.wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        start_log()
        log.info("== %s", function.__name__.replace("_", " "))
        try:
            return function(*args, **kwargs)
        except (LiversegError, OSError, MemoryError, RuntimeError) as raised:
            error = as_ours(raised)
            if error is None:
                raise
            log.error("error: %s", error)
            # Another run has taken the study over; what this one met is no error of that one.
            if not isinstance(error, Fenced):
                arguments = inspect.signature(function).bind(*args, **kwargs).arguments
                _leave(arguments["store"], error)
            sys.exit(error.exit_code)

    return run


def _leave(store: str, error: LiversegError) -> None:
    """Keep the error beside the store; the first of a run stays, later ones follow from it."""
    text = json.dumps({"error": str(error), "exit_code": error.exit_code})
    # A store that cannot be written to is the likeliest error of all.
    with suppress(LiversegError, OSError):
        path = open_store(store).work / "kfp" / ERROR_FILE
        with path.open("x", encoding="utf-8") as file:
            file.write(text)

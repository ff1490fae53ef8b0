"""A pytest plugin: `--fast` for a run of less than a minute, and a check of the mark `slow`.

The fast lane is `FAST` without the tests marked `slow`. In it an import of a package of `REFUSED`
fails, so that every run proves that none of them is needed.
"""

import os
import sys
from collections.abc import Generator
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FAST = (
    "core",
    "race/test_between_looks.py",
    "race/test_checkpoint_retention.py",
    "race/test_controller.py",
    "race/test_cost.py",
    "race/test_early_promotion.py",
    "race/test_facts.py",
    "race/test_job_manifest.py",
    "race/test_malformed_facts.py",
    "race/test_pod_settings.py",
    "race/test_pod_states.py",
    "race/test_progress.py",
    "race/test_simulated.py",
    "race/test_state.py",
    "race/test_stragglers.py",
    "race/test_study.py",
    "test_cli.py",
    "test_fast_lane.py",
    "test_help.py",
    "test_settings.py",
    "test_study_commands.py",
)
REFUSED = frozenset({"kfp", "monai", "torch"})
SLOW_SECONDS = 1.0
# `slow` marks what takes over a second; the check fails at five, so that a loaded machine does not
# fail it: beside other work on two cores the same work took up to 2.7 times as long.
LIMIT_SECONDS = 5 * SLOW_SECONDS

_SECONDS = pytest.StashKey[float]()


class Refusal(MetaPathFinder):
    """Refuses the imports of the fast lane as if the packages were not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"{name} is not for the fast lane", name=name)


def cpu_seconds() -> float:
    """Return the processor time of this process and of its children that have ended.

    Unlike the time on the wall it does not grow with what else the machine does.
    """
    return sum(os.times()[:4])


def in_lane(path: Path) -> bool:
    """Return whether a test file belongs to the lane, or a folder may have one that does."""
    lane = [TESTS / name for name in FAST]
    return any(path == one or path in one.parents or one in path.parents for one in lane)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only the fast lane: make test-fast")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fast"):
        sys.meta_path.insert(0, Refusal())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("--fast") and not in_lane(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--fast"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Count the setup of fixtures; a fixture that tests share counts with the first of them."""
    start = cpu_seconds()
    try:
        return (yield)
    finally:
        item.stash[_SECONDS] = cpu_seconds() - start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    start = cpu_seconds()
    try:
        return (yield)
    finally:
        item.stash[_SECONDS] += cpu_seconds() - start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    seconds = item.stash.get(_SECONDS, 0.0)
    marked = item.get_closest_marker("slow") is not None
    if call.when == "call" and report.passed and not marked and seconds > LIMIT_SECONDS:
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} took {seconds:.1f} s of processor time with its fixtures, more than "
            f"{LIMIT_SECONDS:g} s; mark what takes over {SLOW_SECONDS:g} s with @pytest.mark.slow, "
            "or make it faster"
        )
    return report

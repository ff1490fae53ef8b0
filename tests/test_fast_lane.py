import subprocess
import sys
from pathlib import Path

import pytest

from tests import fast_lane

ROOT = Path(__file__).parents[1]
# What it finds in its own folder is the lane.
CONFTEST = """
from pathlib import Path
from tests import fast_lane
fast_lane.TESTS, fast_lane.FAST = Path(__file__).parent, ("",)
fast_lane.LIMIT_SECONDS = 0.02
pytest_plugins = ["tests.fast_lane"]
"""


@pytest.fixture
def elsewhere(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with the plugin, in which what takes 0.02 s of processor time is slow."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nmarkers =\n  slow: takes long\n")
    pytester.makeconftest(CONFTEST)
    return pytester


def test_the_lane_names_files_that_exist() -> None:
    assert [name for name in fast_lane.FAST if not (fast_lane.TESTS / name).exists()] == []


@pytest.mark.slow
def test_the_lane_is_collected_without_torch_monai_and_kfp() -> None:
    command = [sys.executable, "-m", "pytest", "--fast", "--collect-only", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "tests/core/test_halving.py::" in done.stdout
    assert "tests/network" not in done.stdout


@pytest.mark.slow
def test_an_import_of_something_heavy_fails_in_the_lane(elsewhere: pytest.Pytester) -> None:
    tests = [f"def test_{name}():\n    import {name}\n" for name in sorted(fast_lane.REFUSED)]
    elsewhere.makepyfile("\n".join(tests))
    done = elsewhere.runpytest_subprocess("--fast")
    done.assert_outcomes(failed=len(tests))
    done.stdout.fnmatch_lines(["*torch is not for the fast lane*"])


@pytest.mark.slow
def test_a_test_that_takes_long_fails_unless_it_is_marked(elsewhere: pytest.Pytester) -> None:
    elsewhere.makepyfile(
        """
        import time

        import pytest

        def work():
            start = time.process_time()
            while time.process_time() - start < 0.05:
                pass

        def test_unmarked():
            work()

        def test_that_waits():
            time.sleep(0.05)

        @pytest.mark.slow
        def test_marked():
            work()

        @pytest.fixture
        def worked():
            work()

        def test_with_a_slow_fixture(worked):
            pass
        """
    )
    done = elsewhere.runpytest_subprocess()
    done.assert_outcomes(passed=2, failed=2)
    done.stdout.fnmatch_lines(
        [f"*{name} took * s of processor time*" for name in ("unmarked", "slow_fixture")]
    )
    done.stdout.fnmatch_lines(["*more than 0.02 s; mark what takes over 1 s *mark.slow*"])
    elsewhere.runpytest_subprocess("--fast").assert_outcomes(passed=1, failed=2, deselected=1)

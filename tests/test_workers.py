"""Processes that work on items, of which one may die without ending the others."""

import os
import signal
import subprocess
import sys
import time

import pytest

from liverseg.platform.workers import Died, run_each


def double(item: int) -> int:
    return 2 * item


def dies_at_three(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * item


def exits_at_three(item: int) -> int:
    if item == 3:
        os._exit(7)
    return 2 * item


def raises_at_three(item: int) -> object:
    return (lambda: item) if item == 3 else 2 * item  # what cannot be pickled cannot be sent


def pid_of_worker(_item: int) -> int:
    return os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 9])
def test_every_item_has_its_result(workers: int) -> None:
    assert dict(run_each(double, range(5), workers)) == {n: 2 * n for n in range(5)}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("function", "code", "said"),
    [
        (dies_at_three, -signal.SIGKILL, "was ended by SIGKILL, as the system does where memory"),
        (exits_at_three, 7, "ended with exit code 7"),
        (raises_at_three, 1, "ended with exit code 1"),
    ],
)
def test_one_that_dies_costs_its_item_only(function, code, said, workers) -> None:
    results = dict(run_each(function, range(6), workers))
    died = results.pop(3)
    assert results == {n: 2 * n for n in (0, 1, 2, 4, 5)}
    assert died == Died(code)
    assert said in died.reason


@pytest.mark.slow
def test_one_worker_serves_several_items() -> None:
    assert len({pid for _, pid in run_each(pid_of_worker, range(3), 1)}) == 1


@pytest.mark.slow
def test_one_that_is_killed_while_it_waits_is_replaced() -> None:
    results = run_each(pid_of_worker, range(3), 1)
    _, pid = next(results)
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    others = [result for _, result in results]
    # The first of them may have been on its way to the dead one.
    assert all(isinstance(other, Died) or other != pid for other in others)
    assert isinstance(others[-1], int)


@pytest.mark.slow
def test_none_is_left_when_nobody_wants_more() -> None:
    results = run_each(pid_of_worker, range(3), 2)
    _, pid = next(results)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(pid)), 0)


@pytest.mark.slow
def test_none_is_left_when_their_owner_is_killed(tmp_path) -> None:
    script = (
        "import sys, time\n"
        "from liverseg.platform.workers import run_each\n"
        "from tests.test_workers import pid_of_worker\n"
        "if __name__ == '__main__':\n"
        "    for _, pid in run_each(pid_of_worker, [0, 1], 1):\n"
        "        print(pid, flush=True)\n"
        "        time.sleep(60)\n"
    )
    (tmp_path / "owner.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, tmp_path / "owner.py"], stdout=subprocess.PIPE, env=environment
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the worker waits for an owner that is gone")

import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from liverseg.platform import cores


def in_a_process(code: str) -> str:
    """Run code in a process that may use one core, as `taskset -c 0` starts it."""
    first = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    done = subprocess.run(
        [sys.executable, "-c", first + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_that_is_kept_on_one_core_has_one() -> None:
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("this machine lets its tests use one core")
    code = "from liverseg.platform.cores import available_cores; print(available_cores())"
    assert in_a_process(code) == "1\n"
    assert cores.available_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("max 100000\n",), None),
        (("150000 100000\n",), 1.5),
        (("-1\n", "100000\n"), None),
        (("400000\n", "100000\n"), 4.0),
    ],
)
def test_a_quota_is_read_as_cores(words: tuple[str, ...], expected: float | None) -> None:
    assert cores.parse_quota(*words) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0::/\n", ["."]),
        ("0::/kubepods/pod1\n", ["kubepods/pod1", "kubepods", "."]),
        ("5:memory:/a\n3:cpu,cpuacct:/b\n", ["cpu,cpuacct/b", "cpu,cpuacct", "."]),
        ("2:cpuacct:/a\n1:cpuset:/a\n", []),
    ],
)
def test_the_groups_of_a_process_are_found_with_all_above(text: str, expected: list[str]) -> None:
    assert cores.folders(text) == [PurePosixPath(path) for path in expected]


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        # The smallest of all groups above counts.
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        # In a container of v1 the path is the host's, and the mount begins at the group.
        (
            "3:cpu,cpuacct:/docker/1\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "200000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            2,
        ),
        ("0::/\n", {}, 16),
    ],
)
def test_a_quota_is_a_limit_of_the_cores(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str,
    files: dict[str, str],
    expected: int,
) -> None:
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "cgroup").write_text(own)
    monkeypatch.setattr(cores, "_MOUNT", tmp_path / "mount")
    monkeypatch.setattr(cores, "_OWN", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    assert cores.available_cores() == expected


@pytest.mark.slow
def test_pytorch_gets_no_more_threads_than_cores() -> None:
    code = (
        "import torch\nfrom liverseg.network.device import use_available_cores\n"
        "torch.set_num_threads(7)\nuse_available_cores()\nprint(torch.get_num_threads())\n"
    )
    assert in_a_process(code) == "1\n"

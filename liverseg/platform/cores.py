"""How many cores this process may use: of its affinity, and of its cgroup's CPU quota.

Sources: sched_getaffinity(2); Linux Documentation/admin-guide/cgroup-v2.rst (cpu.max) and
Documentation/scheduler/sched-bwc.rst (cpu.cfs_quota_us, cpu.cfs_period_us).
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MOUNT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def available_cores() -> int:
    """Return how many cores this process may use, at least 1; a part of one counts as one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # where a process cannot be kept on some cores (macOS, Windows)
        cores = os.cpu_count() or 1
    return min([cores, *(max(1, math.ceil(quota)) for quota in _quotas(_MOUNT, _OWN))])


def folders(text: str) -> list[PurePosixPath]:
    """Return where a process' quotas may lie below the mount, from its /proc/self/cgroup.

    They are those of its own groups and of all above, as each limits those below it. A container's
    own mount begins at its group, whose path may be the host's: the parents reach "." as well.
    """
    groups: list[PurePosixPath] = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        own = PurePosixPath(controllers) / path.lstrip("/")
        groups += [own, *own.parents]
    return groups


def parse_quota(limit: str, period: str | None = None) -> float | None:
    """Return a quota in cores: of `cpu.max`, or of v1's two files; None: there is no limit."""
    if period is None:
        limit, period = limit.split()
    if limit.strip() in ("max", "-1"):
        return None
    return int(limit) / int(period)


def _quotas(mount: Path, own: Path) -> Iterator[float]:
    """Yield the quotas of this process' groups; none where there are no cgroups."""
    for folder in dict.fromkeys(folders(_read(own) or "")):
        cpu_max, limit, period = (
            _read(mount / folder / name)
            for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
        )
        if cpu_max:
            quota = parse_quota(cpu_max)
        elif limit and period:
            quota = parse_quota(limit, period)
        else:
            continue
        if quota is not None:
            yield quota


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None

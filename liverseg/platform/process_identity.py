"""Which process holds a lease, so that another one of the same machine sees at once that it died.

A process is named by the kernel's boot id, its pid namespace, its pid and when it started: a host
name is shared by containers, and a pid is used again. What cannot be read is not compared: then
the heartbeat alone tells (race/records/lease.py).

Source: proc(5), /proc/[pid]/stat field 22; namespaces(7).
"""

import os
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
# States in /proc/[pid]/stat of what has ended and was not yet collected by its parent.
_ENDED = ("Z", "X")


def this_process() -> str:
    """Return the identity of this process, or "" where the system does not tell."""
    try:
        if (_PROC / "self").readlink() != Path(str(os.getpid())):
            return ""  # another pid namespace's /proc
        _state, started = _stat(os.getpid())
        return f"{_numbering()} {os.getpid()} {started}"
    except (OSError, ValueError):
        return ""


def is_dead(process: str) -> bool:
    """Return whether a process of this machine, named by `this_process`, is known to have ended."""
    try:
        boot, namespace, pid, started = process.split()
        if f"{boot} {namespace}" != _numbering() or not this_process():
            return False
        with suppress(PermissionError):  # another user's; it may be visible all the same
            os.kill(int(pid), 0)
        state, now_started = _stat(int(pid))
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return state in _ENDED or now_started != started


def boot_id() -> str:
    """Return what tells this boot of the machine from others; "" where the system does not tell."""
    with suppress(OSError):
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return ""


def _numbering() -> str:
    """Return what pids and start times are relative to: the boot and the pid namespace."""
    return f"{boot_id()} {(_PROC / 'self/ns/pid').readlink()}"


def _stat(pid: int) -> tuple[str, str]:
    """Return a process's state and when it started, in clock ticks since the boot."""
    # The second field, the command in parentheses, may hold spaces and parentheses.
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return fields[0], fields[19]

"""What a file system refuses, in words that name the file, what is missing, and the room."""

import errno
import math
import os
from pathlib import Path

from liverseg.errors import StoreAway, StoreError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# What a file system on the network says while its server is away (NFS mounted soft, FUSE, SMB). A
# hard mount says nothing: the call waits until the server is back.
_AWAY = frozenset({
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNREFUSED,
    errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
    errno.ENETUNREACH, errno.EREMOTEIO,
})  # fmt: skip


def refusal(error: OSError, action: str, path: Path, needed: int | None = None) -> StoreError:
    """Return the StoreError that says what is missing and where.

    Args:
        error: What the file system said.
        action: What was not possible, such as "write".
        path: With what.
        needed: Bytes that were to be written there, for the message of a full disk; None: unknown.
    """
    if error.errno in (errno.EACCES, errno.EPERM):
        who = f"user id {os.geteuid()}"
        return StoreError(f"no right to {action} {path} ({who}): {error.strerror}")
    if error.errno == errno.EROFS:
        return StoreError(f"no right to {action} {path}: the file system is read-only")
    if error.errno in FULL:
        room = f"{error.strerror}" if needed is None else _room(path, needed)
        return StoreError(f"disk full: cannot {action} {path} ({room})")
    kind = StoreAway if error.errno in _AWAY else StoreError
    return kind(f"cannot {action} {path}: {error.strerror or error}")


def _room(path: Path, needed: int) -> str:
    """Return what is needed and what is free, in kB; a quota is not seen by statvfs."""
    wanted = f"{math.ceil(needed / 1000):,} kB needed"
    try:
        state = os.statvfs(path.parent)
    except OSError:
        return wanted
    return f"{wanted}, {state.f_bavail * state.f_frsize // 1000:,} kB free"

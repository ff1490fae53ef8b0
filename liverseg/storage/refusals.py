"""What a file system refuses, in words that name the file, what is missing, and the room."""

import errno
import math
import os
from contextlib import suppress
from pathlib import Path

from liverseg.errors import StoreAway, StoreError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
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
        needed: Bytes that were to be written there; None: unknown. A full disk is named with them
            and with what is free now.
    """
    if error.errno in (errno.EACCES, errno.EPERM):
        who = f"user id {os.geteuid()}"
        return StoreError(f"no right to {action} {path} ({who}): {error.strerror}")
    if error.errno == errno.EROFS:
        return StoreError(f"no right to {action} {path}: the file system is read-only")
    if error.errno in _FULL:
        return StoreError(f"disk full: cannot {action} {path} ({_room(path, needed)})")
    kind = StoreAway if error.errno in _AWAY else StoreError
    return kind(f"cannot {action} {path}: {error.strerror or error}")


def _room(path: Path, needed: int | None) -> str:
    """Return what is needed and what is free, in kB; a quota is not seen by statvfs."""
    parts = [] if needed is None else [f"{math.ceil(needed / 1000):,} kB needed"]
    with suppress(OSError):
        state = os.statvfs(path.parent)
        parts.append(f"{state.f_bavail * state.f_frsize // 1000:,} kB free")
    return ", ".join(parts) or "no space left on the device"

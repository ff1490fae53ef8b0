"""How often the kernel has opened each file of some folders, whoever asked: Python or ITK."""

import ctypes
import os
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_OPENED, _CLOSED = 0x20, 0x08 | 0x10  # IN_OPEN, IN_CLOSE_WRITE | IN_CLOSE_NOWRITE
_IS_FOLDER = 0x40000000  # IN_ISDIR
_EVENT = struct.Struct("iIII")


@contextmanager
def counted_opens(data: Path) -> Iterator[Counter[str]]:
    """Yield a counter of opened files, by path below `data`; it is filled when the block ends.

    Closing is watched too, since the kernel merges events that are the same and follow each other.
    """
    opens: Counter[str] = Counter()
    queue = _LIBC.inotify_init1(os.O_NONBLOCK)
    assert queue >= 0, os.strerror(ctypes.get_errno())
    try:
        folders = [data, *(path for path in data.rglob("*") if path.is_dir())]
        names = {
            _LIBC.inotify_add_watch(queue, bytes(path), _OPENED | _CLOSED): path for path in folders
        }
        yield opens
        while events := _read(queue):
            for watch, mask, name in events:
                if mask & _OPENED and name and not mask & _IS_FOLDER:
                    opens[(names[watch] / name).relative_to(data).as_posix()] += 1
    finally:
        os.close(queue)


def _read(queue: int) -> list[tuple[int, int, str]]:
    try:
        data = os.read(queue, 1 << 20)
    except BlockingIOError:
        return []
    events, start = [], 0
    while start < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, start)
        start += _EVENT.size + length
        name = data[start - length : start].rstrip(b"\0").decode()
        assert watch >= 0, "the kernel's queue was too short"
        events.append((watch, mask, name))
    return events

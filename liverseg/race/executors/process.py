"""Trainers as processes of this machine, which outlive a killed controller; the next adopts them.

A job is a folder `<work>/jobs/<name>/` with `lock`, `start.json` (when, and its device index),
`pid`, `log.txt` and, once its controller saw it end, `exit.json`. The trainer inherits the open,
locked file `lock`, so the lock lives exactly as long as the trainer does, whatever becomes of the
controller; a pid alone may be another process's by now.
"""

import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from liverseg.errors import StoreError
from liverseg.platform.process_identity import boot_id
from liverseg.race.executors.port import arguments
from liverseg.race.records.job import Job, JobState, job_name

# The shell writes its own pid and becomes the trainer: no moment without a pid on record.
_LAUNCH = ("/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"')
_TAIL_BYTES = 4096
# Trainers may outlive their executor, and Popen warns when it is collected before its child ends.
_STARTED: list[subprocess.Popen[bytes]] = []


@dataclass
class ProcessExecutor:
    """An Executor that starts `[*command, --study=ID --seed=N --rung=K --attempt=A ...]`.

    The last options are `--device-index=I`, which chooses the GPU: a number below the number of
    trainers at a time; and `--clock-offset=S`, the unix time minus the monotonic clock, so that
    trainer and executor tell the same time, whatever is done to the machine's clock meanwhile.
    """

    work: Path
    """Folder for locks, pids and logs; one per store, on a local file system."""
    command: Sequence[str]
    """The beginning of the command line, such as `python -m liverseg.cli train`."""
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    """The whole environment of a trainer; None: that of this process."""
    grace_seconds: float = 120.0
    """From SIGTERM to SIGKILL for a cancelled trainer: the time to save, as in a pod."""
    monotonic: Callable[[], float] = time.monotonic
    """Clock for the grace and for how long a job took; the same for all processes of this machine
    since it was booted."""
    wall: Callable[[], float] = time.time
    """Unix time."""
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, init=False)
    _ended: dict[str, JobState] = field(default_factory=dict, init=False)
    _asked: dict[str, float] = field(default_factory=dict, init=False)
    local = True

    def submit(self, job: Job) -> bool:
        """Start the trainer in a session of its own; False if it runs or ever ran."""
        folder = self._folder(job.name)
        device_index = self._free_device_index(job)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder) as lock:
                if lock is None or (folder / "pid").exists():
                    return False
                wall, monotonic = self.wall(), self.monotonic()
                start = {"wall": wall, "monotonic": monotonic, "boot_id": boot_id()}
                _write_whole(folder / "start.json", start | {"device_index": device_index})
                clock_offset = f"--clock-offset={wall - monotonic!r}"
                options = f"--device-index={device_index}", clock_offset
                child = self._start(job, folder, lock, options)
        except OSError as exc:
            raise StoreError(f"cannot start a trainer in {folder}: {exc.strerror}") from exc
        _STARTED.append(child)
        self._children[job.name] = child
        return True

    def states(self) -> Mapping[str, JobState]:
        """Return all jobs of this work folder, those of earlier controllers included."""
        names = sorted(path.name for path in self._folder("").glob("lv-*"))
        states = (self._state(name) for name in names)
        return {state.name: state for state in states if state is not None}

    def last_line(self, name: str) -> str:
        """Return the last line of an ended job's log; "" if it is empty, or the job runs."""
        state, path = self._state(name), self._folder(name) / "log.txt"
        if state is None or state.running or not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def cancel(self, name: str) -> None:
        """SIGTERM to the trainer's process group; SIGKILL at a call after the grace."""
        state = self._state(name)
        if state is None or not state.running:
            return
        child, now = self._children.get(name), self.monotonic()
        # An adopted trainer has no pid, or a part of one, until its shell has written it.
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            # Its lock is held, so that the pid is its own.
            pid = child.pid if child else int((self._folder(name) / "pid").read_text())
            asked = self._asked.setdefault(name, now)
            if asked == now:
                os.killpg(pid, signal.SIGTERM)
            elif now - asked >= self.grace_seconds:
                os.killpg(pid, signal.SIGKILL)

    def remove(self, name: str) -> None:
        """Delete the folder of a job that has ended, with its log; one that runs stays."""
        state, folder = self._state(name), self._folder(name)
        if state is None or state.running:
            return
        self._ended.pop(name, None)
        self._children.pop(name, None)
        try:
            shutil.rmtree(folder)
        except OSError as exc:
            raise StoreError(f"cannot delete {folder}: {exc.strerror}") from exc

    def _folder(self, name: str) -> Path:
        return self.work / "jobs" / name

    def _free_device_index(self, job: Job) -> int:
        """Return the lowest number that no running trainer has; a GPU each, where there are any.

        An attempt goes to another than the one before it, where one is free: a straggler is moved.
        """
        states = self.states()
        starts = {name: _read(self._folder(name) / "start.json") for name in states}
        indices = {name: start.get("device_index") for name, start in starts.items()}
        taken = {indices[name] for name, state in states.items() if state.running}
        before = job_name(job.study, job.nonce, job.at._replace(attempt=job.attempt - 1))
        known: set[int] = {index for index in indices.values() if index is not None}
        free = known - taken - {indices.get(before)}
        if job.attempt and free:
            return min(free)
        return next(index for index in itertools.count() if index not in taken)

    def _start(
        self, job: Job, folder: Path, lock: IO[bytes], options: Sequence[str]
    ) -> subprocess.Popen[bytes]:
        with (folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [*_LAUNCH, str(folder / "pid"), *self.command, *arguments(job), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                pass_fds=[lock.fileno()],
                # Ctrl-C in a terminal reaches the controller only, which then asks the trainers.
                start_new_session=True,
            )

    def _state(self, name: str) -> JobState | None:
        """Return what is known of a job, or None if it was never started."""
        if name in self._ended:
            return self._ended[name]
        folder = self._folder(name)
        log = f"log: {folder / 'log.txt'}"
        child = self._children.get(name)
        if child is not None:
            if child.poll() is None:
                return JobState(name, running=True, message=log)
            self._write_exit(folder, child.returncode)
        elif not (folder / "exit.json").exists():
            with _locked(folder, create=False) as lock:
                if lock is None:
                    running = (folder / "lock").exists()
                    return JobState(name, running=True, message=log) if running else None
            if not (folder / "pid").exists():
                return None
        end, start = _read(folder / "exit.json"), _read(folder / "start.json")
        times = start.get("wall"), end.get("ended")
        self._ended[name] = JobState(name, False, end.get("exit_code"), *times, log)
        return self._ended[name]

    def _write_exit(self, folder: Path, exit_code: int) -> None:
        """Keep exit code and end for later controllers, which are not the trainer's parent."""
        start, ended = _read(folder / "start.json"), None
        # The monotonic clock begins anew with every boot.
        if start.get("boot_id") == boot_id():
            ended = start["wall"] + self.monotonic() - start["monotonic"]
        try:
            _write_whole(folder / "exit.json", {"exit_code": exit_code, "ended": ended})
        except OSError as exc:
            raise StoreError(f"cannot write {folder / 'exit.json'}: {exc.strerror}") from exc


@contextmanager
def _locked(folder: Path, create: bool = True) -> Iterator[IO[bytes] | None]:
    """Yield the job's lock file, locked; None while a trainer, which inherits it, holds it."""
    with ExitStack() as stack:
        file: IO[bytes] | None = None
        with suppress(FileNotFoundError, BlockingIOError):
            opened = stack.enter_context((folder / "lock").open("ab" if create else "rb"))
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file = opened
        yield file


def _read(path: Path) -> dict[str, Any]:
    """Return the values of a JSON file; none where it is absent."""
    with suppress(FileNotFoundError):
        return dict(json.loads(path.read_text()))
    return {}


def _write_whole(path: Path, values: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(values))
    temporary.replace(path)

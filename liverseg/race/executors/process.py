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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from liverseg.errors import StoreError
from liverseg.race.records.job import Job, JobState, job_name, parse_job_name

# How long a cancelled trainer may take to save before it is killed; as a pod's grace period.
GRACE_SECONDS = 120.0
# The shell writes its own pid and becomes the trainer: no moment without a pid on record.
_LAUNCH = ("/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"')
_TAIL_BYTES = 4096
# Trainers may outlive their executor, and Popen warns when it is collected before its child ends.
_STARTED: list[subprocess.Popen[bytes]] = []


class ProcessExecutor:
    """An Executor that starts `[*command, --study ID --seed N --rung K --attempt A ...]`.

    The last options are `--device-index I`, which chooses the GPU: a number below the number of
    trainers at a time; and `--clock-offset S`, the unix time minus the monotonic clock, so that
    trainer and executor tell the same time, whatever is done to the machine's clock meanwhile.

    Args:
        work: Folder for locks, pids and logs; one per store, on a local file system.
        command: The beginning of the command line, such as `python -m liverseg.cli train`.
        environment: The whole environment of a trainer; None: that of this process.
        grace_seconds: From SIGTERM to SIGKILL for a cancelled trainer.
        monotonic: Clock for the grace and for how long a job took; the same for all processes of
            this machine since it was booted.
        wall: Unix time.
    """

    def __init__(
        self,
        work: Path,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        grace_seconds: float = GRACE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._jobs = work / "jobs"
        self._command = tuple(command)
        self._environment = None if environment is None else dict(environment)
        self._grace_seconds = grace_seconds
        self._monotonic, self._wall = monotonic, wall
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: dict[str, JobState] = {}
        self._asked: dict[str, float] = {}

    def submit(self, job: Job) -> bool:
        """Start the trainer in a session of its own; False if it runs or ever ran."""
        folder = self._jobs / job.name
        device_index = self._free_device_index(job)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder) as lock:
                if lock is None or (folder / "pid").exists():
                    return False
                start = _Start(self._wall(), self._monotonic(), _boot_id(), device_index)
                _write_whole(folder / "start.json", asdict(start))
                child = self._start(job, folder, lock, start)
        except OSError as exc:
            raise StoreError(f"cannot start a trainer in {folder}: {exc.strerror}") from exc
        _STARTED.append(child)
        self._children[job.name] = child
        return True

    def states(self) -> Mapping[str, JobState]:
        """Return all jobs of this work folder, those of earlier controllers included."""
        names = sorted(path.name for path in self._jobs.glob("lv-*"))
        states = (self._state(name) for name in names)
        return {state.name: state for state in states if state is not None}

    def cancel(self, name: str) -> None:
        """SIGTERM to the trainer's process group; SIGKILL at a call after the grace."""
        state = self._state(name)
        if state is None or not state.running:
            return
        now = self._monotonic()
        asked = self._asked.setdefault(name, now)
        if asked == now:
            self._signal(name, signal.SIGTERM)
        elif now - asked >= self._grace_seconds:
            self._signal(name, signal.SIGKILL)

    def remove(self, name: str) -> None:
        """Delete the folder of a job that has ended, with its log; one that runs stays."""
        state = self._state(name)
        if state is None or state.running:
            return
        self._ended.pop(name, None)
        self._children.pop(name, None)
        try:
            shutil.rmtree(self._jobs / name)
        except OSError as exc:
            raise StoreError(f"cannot delete {self._jobs / name}: {exc.strerror}") from exc

    def interrupt(self, study: str, nonce: str) -> None:
        """SIGTERM to every trainer of the study: they save and end, and are resumed later."""
        for name, state in self.states().items():
            parts = parse_job_name(name)
            if state.running and parts is not None and parts.belongs_to(study, nonce):
                self._signal(name, signal.SIGTERM)

    def leave(self, study: str, nonce: str) -> None:
        """As `interrupt`: whoever presses Ctrl-C wants the machine back."""
        self.interrupt(study, nonce)

    def _free_device_index(self, job: Job) -> int:
        """Return a number that no running trainer has; a GPU each, where there are any.

        The lowest one; but an attempt goes to another index than the one before it, if any is free
        that was ever used: a straggler is moved.
        """
        starts = {name: _start_of(self._jobs / name) for name in self.states()}
        indices = {name: start.device_index if start else None for name, start in starts.items()}
        taken = {indices[name] for name, state in self.states().items() if state.running}
        before = job_name(job.study, job.nonce, job.seed, job.rung_name, job.attempt - 1)
        others = {
            device_index for device_index in indices.values() if device_index is not None
        } - taken
        free = sorted(others - {indices.get(before)})
        if job.attempt and free:
            return free[0]
        return next(device_index for device_index in itertools.count() if device_index not in taken)

    def _start(
        self, job: Job, folder: Path, lock: IO[bytes], start: "_Start"
    ) -> subprocess.Popen[bytes]:
        arguments = {
            "--study": job.study,
            "--seed": str(job.seed),
            "--rung": str(job.rung_name),
            "--attempt": str(job.attempt),
            "--device-index": str(start.device_index),
            "--clock-offset": repr(start.wall - start.monotonic),
        }
        options = [word for pair in arguments.items() for word in pair]
        with (folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [*_LAUNCH, str(folder / "pid"), *self._command, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=[lock.fileno()],
                # Ctrl-C in a terminal reaches the controller only, which then asks the trainers.
                start_new_session=True,
            )

    def _state(self, name: str) -> JobState | None:
        """Return what is known of a job, or None if it was never started."""
        if name in self._ended:
            return self._ended[name]
        folder = self._jobs / name
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
        self._ended[name] = _end(name, folder, log)
        return self._ended[name]

    def _write_exit(self, folder: Path, exit_code: int) -> None:
        """Keep exit code and end for later controllers, which are not the trainer's parent."""
        start = _start_of(folder)
        ended = None
        # The monotonic clock begins anew with every boot.
        if start is not None and start.boot_id == _boot_id():
            ended = start.wall + self._monotonic() - start.monotonic
        try:
            _write_whole(folder / "exit.json", {"exit_code": exit_code, "ended": ended})
        except OSError as exc:
            raise StoreError(f"cannot write {folder / 'exit.json'}: {exc.strerror}") from exc

    def _signal(self, name: str, number: signal.Signals) -> None:
        """Signal the process group of a trainer whose lock is held, so that the pid is its own."""
        child = self._children.get(name)
        pid = child.pid if child is not None else _number(self._jobs / name / "pid")
        if pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(pid, number)


@contextmanager
def _locked(folder: Path, create: bool = True) -> Iterator[IO[bytes] | None]:
    """Yield the job's lock file, locked, or None while a trainer (or a controller) holds it.

    Closing the file leaves the lock to a trainer that has inherited it.
    """
    try:
        file = (folder / "lock").open("ab" if create else "rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() else None


@dataclass(frozen=True)
class _Start:
    """When a job was started and where; written just before its trainer is."""

    wall: float
    monotonic: float
    boot_id: str
    device_index: int


def _start_of(folder: Path) -> _Start | None:
    with suppress(FileNotFoundError):
        return _Start(**json.loads((folder / "start.json").read_text()))
    return None


def _boot_id() -> str:
    """Return what tells this boot of the machine from others; empty where nobody knows it."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _write_whole(path: Path, values: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(values))
    temporary.replace(path)


def _end(name: str, folder: Path, log: str) -> JobState:
    """Return the state of a job that has ended, with the last line it wrote."""
    exit_values: dict[str, float | None] = {"exit_code": None, "ended": None}
    with suppress(FileNotFoundError):
        exit_values = json.loads((folder / "exit.json").read_text())
    start = _start_of(folder)
    code, line = exit_values["exit_code"], _last_line(folder / "log.txt")
    message = f"{line} ({log})" if line else log
    return JobState(
        name,
        False,
        None if code is None else int(code),
        None if start is None else start.wall,
        exit_values["ended"],
        message,
    )


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")

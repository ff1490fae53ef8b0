"""One trainer: a seed goes up to a rung, reports, and its process ends.

It commits a checkpoint at every validation and when it is asked to stop. The exit code says how
it ended (docs/architecture.md section 6); what follows is the controller's decision. While the
store is away the training continues, and what it writes is kept on this machine
(storage/outbox.py).
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from liverseg.core.race.ledger import RungName
from liverseg.errors import (
    LiversegError,
    SettingsDiffer,
    SettingsError,
    StoreError,
    StudyError,
)
from liverseg.exit_codes import ExitCode
from liverseg.network.device import best_device, gpu_uuid
from liverseg.race.records.job import Attempt
from liverseg.race.records.study import Study, load_study, require_current
from liverseg.settings import BASELINE_SEED
from liverseg.steps.training.orphan_check import OrphanCheck
from liverseg.steps.training.trainer import Progress, Trainer
from liverseg.steps.training.waiting import Stop, Waiting
from liverseg.storage.folder import FolderStore
from liverseg.storage.outbox import Outage, Outbox
from liverseg.storage.port import ObjectStore
from liverseg.telemetry.gpu_device import GpuCollector
from liverseg.telemetry.metrics_server import serving
from liverseg.telemetry.trainer_metrics import TrainerMetrics

log = logging.getLogger("liverseg")
# For how long the store itself may repeat a request: the GPU waits for it.
STORE_OUTAGE_SECONDS = 10.0


def run(
    store: ObjectStore,
    study_id: str,
    seed: int,
    rung: RungName,
    attempt: int,
    *,
    nonce: str = "",
    orphan_grace: float,
    now: Callable[[], float],
    sleep: Callable[[float], None] = time.sleep,
    scratch: Path | None = None,
    device_index: int = 0,
    pod: str = "",
    metrics_at: tuple[str, int] = ("", 0),
    progress: Progress = lambda what, done, total: None,
) -> int:
    """Train a seed up to a rung and return the exit code; at 0 the report is committed.

    Args:
        store: Holds the study, its prepared cases and everything this writes.
        study_id: An opened study.
        seed: 0 to seeds - 1, or BASELINE_SEED.
        rung: Index of the rung, or "baseline".
        attempt: From 0; part of every key that is written.
        nonce: Of the study that the trainer was started for; another one in the store is another
            race, and the trainer ends with 76. Empty: any.
        orphan_grace: Seconds without a new heartbeat, or without the store, after which the
            trainer saves and ends.
        now: Unix time that no step of the machine's clock moves (platform/clock.py).
        sleep: Waits the given seconds.
        scratch: Folder of this machine for what cannot be written while the store is away; None:
            one of this user's below the folder for temporary files.
        device_index: Number among the trainers of this machine; chooses the GPU.
        pod: What tells this process from others that were given the same attempt: a Job may make
            another pod. The first one is the attempt, a later one ends with 75.
        metrics_at: Host and port where Prometheus scrapes this process; port 0: nowhere.
        progress: Called with ("iterations", done, total).

    Raises:
        SettingsDiffer: This version of liverseg would give other weights.
        IntegrityError: A checkpoint differs from its manifest.
    """
    waiting = Waiting(Outage(now), orphan_grace, sleep)
    metrics = TrainerMetrics(study_id, Attempt(rung, seed, attempt), now)
    store = metrics.measured(store)
    try:
        study = waiting.ask(lambda: load_study(store, study_id))
        if nonce not in ("", study.nonce):
            log.error(
                "study %s was opened anew: its nonce is %s, this trainer was started for %s",
                study.id,
                study.nonce,
                nonce,
            )
            return ExitCode.ORPHANED
        try:
            require_current(study)
        except StudyError as error:
            raise SettingsDiffer(str(error)) from error
        target = _target(study, seed, rung)
        metrics.set("target_iterations", target)
        device = best_device(device_index)
        if (uuid := gpu_uuid(device)) is not None:
            metrics.registry.register(GpuCollector(uuid, metrics.labels))
        orphan_check = OrphanCheck(store, study.id, study.nonce, seed, rung, attempt, orphan_grace)
        # The nonce: a study that was opened anew in an emptied store is another one.
        folder = (scratch or _scratch()) / f"{study.id}-{study.nonce}" / f"{seed:04d}"
        trainer = Trainer(
            store=store,
            study=study,
            seed=seed,
            rung=rung,
            attempt=attempt,
            target=target,
            orphan_check=orphan_check,
            now=now,
            progress=progress,
            device=device,
            waiting=waiting,
            outbox=Outbox(store, FolderStore(folder), waiting.outage),
            folder=folder,
            metrics=metrics,
        )
        if not waiting.ask(lambda: trainer.begin(pod)):
            return ExitCode.INTERRUPTED
    except Stop as stop:
        return stop.code
    # That of a crash; written as the end of a span that had none of its own.
    code: int = ExitCode.DEFECT
    try:
        with serving(metrics.registry, *metrics_at):
            code = trainer.run()
    except LiversegError as error:
        code = error.exit_code
        raise
    finally:
        # How it ended stands in the exit code; for this line alone nothing may end differently.
        with suppress(StoreError):
            trainer.end(code)
    return code


def _target(study: Study, seed: int, rung: RungName) -> int:
    if (rung == "baseline") != (seed == BASELINE_SEED):
        raise SettingsError(
            f"seed {BASELINE_SEED} and rung 'baseline' go together, not {seed}, {rung}"
        )
    index = len(study.rungs) - 1 if rung == "baseline" else rung
    if not 0 <= index < len(study.rungs):
        raise SettingsError(f"rung ({rung}) must be in 0 .. {len(study.rungs) - 1}")
    return study.rungs[index].iterations


def _scratch() -> Path:
    """Return a folder for temporary files that nobody but this user can write to."""
    folder = Path(tempfile.gettempdir()) / f"liverseg-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if folder.is_dir() and status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return folder
        # Somebody else made it first: one that a later attempt does not find.
        return Path(tempfile.mkdtemp(prefix="liverseg-"))
    return folder

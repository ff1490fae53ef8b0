"""One trainer: a seed goes up to a rung, reports, and its process ends.

It commits a checkpoint at every validation and when it is asked to stop. The exit code says how
it ended (docs/architecture.md section 6); what follows is the controller's decision.
"""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch

from liverseg.core.data.case import PreparedCase
from liverseg.core.data.dataset import Role
from liverseg.core.race.ledger import RungName
from liverseg.errors import (
    IntegrityError,
    LiversegError,
    NotFound,
    SettingsDiffer,
    SettingsError,
    StudyError,
)
from liverseg.exit_codes import ExitCode
from liverseg.network import checkpoint
from liverseg.network.device import best_device, device_name
from liverseg.network.training import LossNotFiniteError, Training, Validation, train
from liverseg.race.records import facts, lineage, spans
from liverseg.race.records.orphan_check import OrphanCheck
from liverseg.race.records.reports import write_report
from liverseg.race.records.spans import Attempt
from liverseg.race.records.study import Study, load_study, require_current
from liverseg.settings import BASELINE_SEED
from liverseg.steps.data.cases import load_case
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore

WATCH_SECONDS = 10.0
Progress = Callable[[str, int, int], None]


class _Stop(Exception):
    """Ends the training loop in good order; the process ends with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run(
    store: ObjectStore,
    study_id: str,
    seed: int,
    rung: RungName,
    attempt: int,
    *,
    orphan_grace: float,
    now: Callable[[], float],
    device_index: int = 0,
    pod: str = "",
    progress: Progress = lambda what, done, total: None,
) -> int:
    """Train a seed up to a rung and return the exit code; at 0 the report is committed.

    Args:
        store: Holds the study, its prepared cases and everything this writes.
        study_id: An opened study.
        seed: 0 to seeds - 1, or 9999 for A2.
        rung: Index of the rung, or "baseline" for A2.
        attempt: From 0; part of every key that is written.
        orphan_grace: Seconds without a new heartbeat after which the trainer saves and ends.
        now: The wall clock, seconds since 1970.
        device_index: Number among the trainers of this machine; chooses the GPU.
        pod: What tells this process from others that were given the same attempt: a Job may make
            another pod. The first one is the attempt, a later one ends with 75.
        progress: Called with ("iterations", done, total).

    Raises:
        SettingsDiffer: This version of liverseg would give other weights.
        IntegrityError: A checkpoint differs from its manifest.
    """
    study = load_study(store, study_id)
    try:
        require_current(study)
    except StudyError as error:
        raise SettingsDiffer(str(error)) from error
    target = _target(study, seed, rung)
    watch = OrphanCheck(store, study.id, study.nonce, seed, rung, attempt, orphan_grace)
    device = best_device(device_index)
    trainer = _Trainer(store, study, seed, rung, attempt, target, watch, now, progress, device)
    if not trainer.begin(pod):
        return ExitCode.INTERRUPTED
    # That of a crash; written as the end of a span that had none of its own.
    code: int = ExitCode.DEFECT
    try:
        code = trainer.run()
    except LiversegError as error:
        code = error.exit_code
        raise
    finally:
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


@dataclass
class _Trainer:
    """The world around one training: checkpoints, facts, signals, the controller's heartbeat."""

    store: ObjectStore
    study: Study
    seed: int
    rung: RungName
    attempt: int
    target: int
    watch: OrphanCheck
    now: Callable[[], float]
    progress: Progress
    device: torch.device
    iteration: int = 0
    interrupted: bool = False
    checked: float = 0.0
    started: float = 0.0

    def run(self) -> int:
        self.started = self.checked = self.now()
        self.watch.is_alone(self.started)
        torch.set_num_threads(self.study.settings.training.threads)
        training = self._restored()
        try:
            # Saving included: who asks twice is still only asking.
            with self.signals():
                try:
                    train(
                        training,
                        self.target,
                        lambda validation: self._validated(training, validation),
                        self._after,
                    )
                except _Stop as stop:
                    self._commit(training)
                    return stop.code
        except LossNotFiniteError:
            return ExitCode.NOT_FINITE
        self._report(training)
        return ExitCode.DONE

    def begin(self, pod: str) -> bool:
        """Record the start; return False, and record nothing, where another pod has begun."""
        begun = spans.pods(spans.events(self.store, self.study, self._attempt))
        if pod and begun and begun[0] != pod:
            return False
        device = f"{socket.gethostname()} {device_name(self.device)}"
        self._record(spans.start(self.now(), device, pod))
        return True

    def end(self, code: int) -> None:
        """Record that the process is about to end."""
        self._record(spans.end(self.iteration, self.now(), code))

    @property
    def _attempt(self) -> Attempt:
        return Attempt(self.rung, self.seed, self.attempt)

    def _record(self, event: str) -> None:
        """Record how far this process is; the ledger of GPU time is made of these."""
        spans.write(self.store, self.study, self._attempt, event)

    def _restored(self) -> Training:
        """Return the training at the seed's newest checkpoint, or at its start."""
        training = Training(
            self.study.settings,
            self.seed,
            self._cases("training"),
            self._cases("validation"),
            self.device,
        )
        saved = self._newest()
        if saved is not None:
            checkpoint.restore(training, saved)
        self.iteration = training.iteration
        self._record(spans.sample(self.iteration, self.now()))
        return training

    def _newest(self) -> dict[str, bytes] | None:
        """Return the seed's newest checkpoint up to the target, or None before the first.

        Another process of this seed, on a node that was cut off, may still commit one and remove
        what was just listed.
        """
        missing: set[str] = set()
        while True:
            saved = lineage.checkpoints(self.store, self.study, self.seed)
            usable = [c for c in saved if c.iteration <= self.target]
            if not usable:
                return None
            try:
                return bundle.load(self.store, usable[0].prefix)
            except (NotFound, IntegrityError):
                # Not removed meanwhile, but damaged: the same one is met again.
                if usable[0].prefix in missing:
                    raise
                missing.add(usable[0].prefix)

    def _cases(self, role: Role) -> dict[str, PreparedCase]:
        return {c.name: load_case(self.store, c.key) for c in self.study.dataset.role(role)}

    def _validated(self, training: Training, validation: Validation) -> None:
        """Record the validation; the curve first, since a checkpoint would skip what it lacks."""
        self.iteration = validation.iteration
        now = self.now()
        point = facts.CurvePoint(
            seed=self.seed,
            rung=self.rung,
            attempt=self.attempt,
            iteration=validation.iteration,
            jaccard=validation.jaccard,
            cases=dict(validation.cases),
            loss=validation.loss,
            seconds_per_iteration=validation.seconds_per_iteration,
            waiting_share=validation.waiting_share,
            seconds=now - self.started,
            time=now,
        )
        facts.write_curve(self.store, self.study.id, point)
        self._record(spans.sample(validation.iteration, now))
        self._commit(training)

    def _after(self, iteration: int) -> None:
        """Look up from the work: was the process asked to stop, is it alone?"""
        self.iteration = iteration
        self.progress("iterations", iteration, self.target)
        if iteration == self.target:
            return
        if self.interrupted:
            raise _Stop(ExitCode.INTERRUPTED)
        if self.now() - self.checked >= WATCH_SECONDS:
            self.checked = self.now()
            if self.watch.is_alone(self.checked):
                raise _Stop(ExitCode.ORPHANED)

    def _commit(self, training: Training) -> None:
        """Commit a checkpoint; what it makes superfluous is removed after that."""
        prefix = facts.checkpoint_prefix(self.study.id, self.seed, training.iteration, self.attempt)
        extra = {"seed": self.seed, "iteration": training.iteration, "attempt": self.attempt}
        bundle.commit(self.store, prefix, checkpoint.encode(training), extra)
        lineage.remove_superseded(self.store, self.study, self.seed, training.iteration)

    def _report(self, training: Training) -> None:
        """Commit what the controller ranks by; the checkpoint it names is already there."""
        there = lineage.checkpoints(self.store, self.study, self.seed)
        reached = [saved for saved in there if saved.iteration == self.target]
        # Its own, where it trained the last iterations itself: on a GPU another's may differ.
        prefix = facts.checkpoint_prefix(self.study.id, self.seed, self.target, self.attempt)
        saved = next((c for c in reached if c.prefix == prefix), reached[0])
        described = bundle.manifest(self.store, saved.prefix).files
        report = facts.Report(
            seed=self.seed,
            rung=self.rung,
            attempt=self.attempt,
            iterations=training.iteration,
            best_jaccard=training.best.jaccard,
            best_iteration=training.best.iteration,
            last_jaccard=training.last_jaccard,
            cases=dict(training.best.cases),
            checkpoint=saved.prefix,
            checkpoint_sha256=bundle.manifest_sha256(self.store, saved.prefix),
            weights_sha256=described[checkpoint.BEST].sha256,
        )
        write_report(self.store, self.study.id, report)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the training after the running iteration."""

        def interrupt(_number: int, _frame: FrameType | None) -> None:
            self.interrupted = True

        before = {s: signal.signal(s, interrupt) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

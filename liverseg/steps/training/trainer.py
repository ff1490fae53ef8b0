"""The world around one training: checkpoints, facts, signals, the controller's heartbeat."""

import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TypeVar

import torch

from liverseg.core.data.dataset import CaseRecord
from liverseg.core.race.ledger import RungName
from liverseg.errors import (
    IntegrityError,
    NotFound,
    StoreAway,
)
from liverseg.exit_codes import ExitCode
from liverseg.network import checkpoint
from liverseg.network.device import device_name
from liverseg.network.training import LossNotFiniteError, Training, Validation, train
from liverseg.race.records import facts, lineage, spans
from liverseg.race.records.job import Attempt
from liverseg.race.records.reports import write_report
from liverseg.race.records.study import Study
from liverseg.steps.data.cases import load_labelled, load_training
from liverseg.steps.training.orphan_check import OrphanCheck
from liverseg.steps.training.waiting import Stop, Waiting
from liverseg.storage import bundle
from liverseg.storage.outbox import Outbox
from liverseg.storage.port import ObjectStore
from liverseg.telemetry.trainer_metrics import TrainerMetrics

log = logging.getLogger("liverseg")
ORPHAN_CHECK_SECONDS = 10.0
Progress = Callable[[str, int, int], None]
Case = TypeVar("Case")


@dataclass
class Trainer:
    """The world around one training: checkpoints, facts, signals, the controller's heartbeat."""

    store: ObjectStore
    study: Study
    seed: int
    rung: RungName
    attempt: int
    target: int
    orphan_check: OrphanCheck
    now: Callable[[], float]
    progress: Progress
    device: torch.device
    waiting: Waiting
    outbox: Outbox
    folder: Path
    metrics: TrainerMetrics
    iteration: int = 0
    checked: float = 0.0
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.checked = self.now()

    def run(self) -> int:
        """Train to the target and return the exit code."""
        try:
            return self._trained()
        except Stop as stop:
            return stop.code

    def _trained(self) -> int:
        self.waiting.ask(lambda: self.orphan_check.is_orphan(self.now()))
        torch.set_num_threads(self.study.settings.training.threads)
        # What an earlier attempt has left on this machine, its newest checkpoint too.
        self.waiting.until_back(self.outbox.flush)
        training = self._restored()
        try:
            # Saving included: who asks twice is still only asking.
            with self.signals():
                try:
                    train(
                        training,
                        self.target,
                        lambda validation: self._validated(training, validation),
                        lambda iteration: self._after(training, iteration),
                    )
                except Stop:
                    self._save(training)
                    raise
        except LossNotFiniteError:
            return ExitCode.NOT_FINITE
        self.waiting.until_back(self.outbox.flush)
        self.waiting.ask(lambda: self._report(training))
        return ExitCode.DONE

    def _save(self, training: Training) -> None:
        """Commit a checkpoint before the end, to this machine where the store is away."""
        where = f"{self.folder} of {socket.gethostname()}"
        try:
            self.outbox.write(self._commit(training))
        except StoreAway as error:
            log.warning("iteration %d is not saved: %s", training.iteration, error)
        else:
            if self.waiting.outage.lasts:
                log.warning("iteration %d is kept in %s", training.iteration, where)

    def _write(self, act: Callable[[ObjectStore], object]) -> None:
        """Write to the store or to this machine; where neither takes it, the training waits."""
        self.waiting.until_back(lambda: self.outbox.write(act))

    def begin(self, pod: str) -> bool:
        """Record the start; return False, and record nothing, where another pod has begun."""
        begun = spans.pods(spans.events(self.store, self.study, self._attempt))
        if pod and begun and begun[0] != pod:
            return False
        device = f"{socket.gethostname()} {device_name(self.device)}"
        # In the store itself: who looks for another pod or a later attempt looks there.
        self._record(spans.start(self.started, device, pod))(self.store)
        return True

    def end(self, code: int) -> None:
        """Record that the process is about to end."""
        self.outbox.write(self._record(spans.end(self.iteration, self.now(), code)))

    @property
    def _attempt(self) -> Attempt:
        return Attempt(self.rung, self.seed, self.attempt)

    def _record(self, event: str) -> Callable[[ObjectStore], None]:
        """Return what records how far this process is; the ledger of GPU time is made of these."""
        return lambda store: spans.write(store, self.study, self._attempt, event)

    def _restored(self) -> Training:
        """Return the training at the seed's newest checkpoint, or at its start."""
        training = Training(
            self.study.settings,
            self.seed,
            (self._loaded(load_training, c) for c in self.study.dataset.role("training")),
            {c.name: self._loaded(load_labelled, c) for c in self.study.dataset.role("validation")},
            self.device,
        )
        saved = self.waiting.ask(self._newest)
        if saved is not None:
            checkpoint.restore(training, saved)
        self._reached(training.iteration)
        self._write(self._record(spans.sample(self.iteration, self.now())))
        return training

    def _reached(self, iteration: int) -> None:
        self.iteration = iteration
        self.metrics.set("reached_iterations", iteration)

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

    def _loaded(self, load: Callable[[ObjectStore, str, str], Case], case: CaseRecord) -> Case:
        rater = self.study.settings.data.training_rater
        return self.waiting.ask(lambda: load(self.store, case.key, rater))

    def _validated(self, training: Training, validation: Validation) -> None:
        """Record the validation; the curve first, since a checkpoint would skip what it lacks."""
        self.metrics.validated(validation)
        self._reached(validation.iteration)
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
        self._write(lambda store: facts.write_curve(store, self.study.id, point))
        self._write(self._record(spans.sample(validation.iteration, now)))
        self._write(self._commit(training))

    def _after(self, training: Training, iteration: int) -> None:
        """Look up from the work: was the process asked to stop, is it alone?"""
        self._reached(iteration)
        self.metrics.iterated(training.pace)
        self.progress("iterations", iteration, self.target)
        if iteration == self.target:
            return
        if self.waiting.interrupted:
            raise Stop(ExitCode.INTERRUPTED)
        if self.now() - self.checked >= ORPHAN_CHECK_SECONDS and self.waiting.outage.due:
            self.checked = self.now()
            if self._is_orphan():
                raise Stop(ExitCode.ORPHANED)

    def _is_orphan(self) -> bool:
        """Return whether nobody waits for this trainer, or nothing has been heard for too long."""
        try:
            self.outbox.flush()
            return self.waiting.outage.ask(lambda: self.orphan_check.is_orphan(self.now()))
        except StoreAway as error:
            return self.waiting.given_up(error)

    def _commit(self, training: Training) -> Callable[[ObjectStore], None]:
        """Return what commits a checkpoint, and then removes what it makes superfluous."""
        prefix = facts.checkpoint_prefix(self.study.id, self.seed, training.iteration, self.attempt)
        extra = {"seed": self.seed, "iteration": training.iteration, "attempt": self.attempt}
        files = checkpoint.encode(training)

        def commit(store: ObjectStore) -> None:
            with self.metrics.saving(sum(map(len, files.values()))):
                bundle.commit(store, prefix, files, extra)
            lineage.remove_superseded(store, self.study, self.seed, training.iteration)

        return commit

    def _report(self, training: Training) -> None:
        """Commit what the controller ranks by; the checkpoint it names is already there."""
        reached = self._at_target()
        if not reached:
            # Kept on this machine, it was lost there.
            self._commit(training)(self.store)
            reached = self._at_target()
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
        # Saving removes superseded checkpoints, but not while the store is away.
        lineage.remove_superseded(self.store, self.study, self.seed, training.iteration)

    def _at_target(self) -> list[facts.Checkpoint]:
        saved_checkpoints = lineage.checkpoints(self.store, self.study, self.seed)
        return [saved for saved in saved_checkpoints if saved.iteration == self.target]

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the training after the running iteration."""

        def interrupt(_number: int, _frame: FrameType | None) -> None:
            self.waiting.interrupted = True

        before = {s: signal.signal(s, interrupt) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

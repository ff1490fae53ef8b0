"""One training: Adam on random patches, validated every N iterations (paper, Methods)."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from liverseg.core.data.case import LabelledCase, TrainingCase
from liverseg.core.evaluation.overlap import jaccard
from liverseg.errors import StudyError
from liverseg.network.aunet import AUNet
from liverseg.network.loss import masked_dice_loss
from liverseg.network.patches import Batch, PatchSampler
from liverseg.network.prediction import Predictor
from liverseg.settings import Settings


class LossNotFiniteError(StudyError):
    """The loss became NaN or infinite; this seed cannot go on."""


@dataclass(frozen=True)
class Validation:
    """One validation; Jaccard inside the liver on the network's grid."""

    iteration: int
    jaccard: float
    """Mean over the cases."""
    cases: dict[str, float]
    loss: float
    """Mean training loss since the validation before."""
    seconds_per_iteration: float
    waiting_share: float
    """Share of the training time spent waiting for patches."""


@dataclass
class Best:
    """The state with the highest validation Jaccard so far; the one that is delivered."""

    iteration: int = 0
    jaccard: float | None = None
    cases: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Pace:
    """Loss and time since the last validation. Only the loss is part of a checkpoint."""

    loss_sum: float = 0.0
    iterations: int = 0
    seconds: float = 0.0
    timed: int = 0
    waited: float = 0.0


class Training:
    """Network, optimiser, sampler and best state of one seed; the last state is trained further.

    Each training case is taken once and then let go of; the sampler keeps what patches need.
    """

    def __init__(
        self,
        settings: Settings,
        seed: int,
        training: Iterable[TrainingCase],
        validation: Mapping[str, LabelledCase],
        device: torch.device,
    ) -> None:
        self.settings, self.seed, self.device = settings, seed, device
        torch.manual_seed(seed)
        self.network = AUNet(settings.network).to(device)
        if device.type == "cpu":
            self.network = self.network.to(memory_format=torch.channels_last_3d)
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=settings.training.learning_rate
        )
        self.sampler = PatchSampler(training, settings.network, settings.training, seed)
        self.validation = dict(validation)
        self.iteration = 0
        self.last_jaccard: float | None = None
        self.best = Best()
        self.pace = Pace()

    def step(self, batch: Batch) -> float:
        """Do one iteration; raises LossNotFiniteError and then leaves the weights unchanged."""
        self.network.train()
        image, lesion, mask = (
            torch.from_numpy(a).to(self.device)
            for a in (batch.image, batch.lesion, batch.loss_mask)
        )
        self.optimiser.zero_grad()
        logits = self.network(image)
        loss = masked_dice_loss(logits, lesion, mask, self.settings.training.dice_smoothing)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise LossNotFiniteError(
                f"seed {self.seed}: the loss is {value} at iteration {self.iteration + 1}; "
                f"try a learning rate below {self.settings.training.learning_rate}"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.iteration += 1
        return value

    def validate(self) -> Validation:
        """Predict every validation case, keep the state if it is the best so far."""
        predictor = Predictor.build(self.network, self.device)
        cases = {name: self._jaccard(predictor, c) for name, c in self.validation.items()}
        mean = self.last_jaccard = float(np.mean(list(cases.values())))
        if np.isfinite(mean) and (self.best.jaccard is None or mean > self.best.jaccard):
            weights = {
                k: v.detach().cpu().clone(memory_format=torch.contiguous_format)
                for k, v in self.network.state_dict().items()
            }
            self.best = Best(self.iteration, mean, cases, weights)
        pace, self.pace = self.pace, Pace()
        return Validation(
            iteration=self.iteration,
            jaccard=mean,
            cases=cases,
            loss=pace.loss_sum / max(pace.iterations, 1),
            seconds_per_iteration=pace.seconds / max(pace.timed, 1),
            waiting_share=pace.waited / max(pace.seconds, 1e-9),
        )

    def _jaccard(self, predictor: Predictor, case: LabelledCase) -> float:
        predicted = predictor.probabilities(case.image, case.liver) > 0.5
        return jaccard(predicted, case.lesion & case.liver)


def train(
    training: Training,
    until: int,
    on_validation: Callable[[Validation], None],
    on_iteration: Callable[[int], None] = lambda iteration: None,
) -> None:
    """Go on to iteration `until`, validating every `validation_interval` and at the end.

    The next batch is made in a thread while the network computes; patches depend on seed and
    index alone, so this changes no result. A callback stops the training by raising.
    """
    interval = training.settings.training.validation_interval
    with ThreadPoolExecutor(1) as maker:
        following: Future[Batch] = maker.submit(training.sampler.batch, training.iteration)
        while training.iteration < until:
            start = time.perf_counter()
            batch = following.result()
            waited = time.perf_counter() - start
            if training.iteration + 1 < until:
                following = maker.submit(training.sampler.batch, training.iteration + 1)
            pace = training.pace
            pace.loss_sum += training.step(batch)
            pace.iterations += 1
            pace.timed += 1
            pace.waited += waited
            pace.seconds += time.perf_counter() - start
            if training.iteration % interval == 0 or training.iteration == until:
                on_validation(training.validate())
            on_iteration(training.iteration)

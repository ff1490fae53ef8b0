"""The facts of a race: their keys, what they hold, who writes them.

One writer per key, written once; only heartbeat.json changes. The types of conclusions are in
decisions.py. A rung is its number, or "baseline" for the baseline that the paper compares with.
All other state is computed from these at every reconcile.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from liverseg.race.records.key_forms import CHECKPOINT, CONTROLLER, CURVE, REPORT, key_of, named
from liverseg.settings import BASELINE_SEED
from liverseg.storage import record
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import Count, Sha256, Time

Arm = Literal["multi", "baseline"]
ARMS: tuple[Arm, Arm] = ("multi", "baseline")
Seed = Annotated[int, Meta(ge=0, le=BASELINE_SEED)]
AnyRung = Count | Literal["baseline"]
Jaccard = Annotated[float, Meta(ge=0, le=1)]


def study_prefix(study: str) -> str:
    """Return the prefix of everything that belongs to a study."""
    return f"studies/{study}/"


def spec_key(study: str) -> str:
    """Settings and dataset; written when the study is opened."""
    return study_prefix(study) + "spec.json"


def heartbeat_key(study: str) -> str:
    """Generation, owner and time of the lease: the only record that changes."""
    return study_prefix(study) + "heartbeat.json"


def checkpoints_prefix(study: str, seed: int | None = None) -> str:
    """Return where the checkpoints of a seed, or of all, are stored."""
    return study_prefix(study) + "checkpoints/" + ("" if seed is None else f"{seed:04d}/")


def checkpoint_prefix(study: str, seed: int, iteration: int, attempt: int) -> str:
    """Bundle of state.safetensors, best.safetensors and state.json; written by the trainer."""
    return f"{checkpoints_prefix(study, seed)}{iteration}-a{attempt}/"


def curves_prefix(study: str, seed: int | None = None) -> str:
    """Return where the validations of a seed, or of all, are stored."""
    return study_prefix(study) + "curves/" + ("" if seed is None else f"{seed:04d}/")


def rungs_prefix(study: str) -> str:
    """Return where everything is stored that happens at the rungs, by rung."""
    return study_prefix(study) + "rungs/"


def kind_at_rung(key: str) -> str:
    """Return what a key below a rung is of: attempts, failures, promotions, reports, ..."""
    return "".join(key.split("/")[4:5])


def result_key(study: str, arm: Arm = "multi") -> str:
    """The race's winner, or the baseline's end; written by the controller."""
    return f"{study_prefix(study)}results/{arm}.json"


def model_prefix(study: str, arm: Arm = "multi") -> str:
    """Bundle of model.safetensors and model.json; written by the controller."""
    return study_prefix(study) + ("model/" if arm == "multi" else "baseline-model/")


def controllers_prefix(study: str) -> str:
    """Return where every controller says who started it, and what it may spend."""
    return study_prefix(study) + "controllers/"


def stops_prefix(study: str) -> str:
    """Numbered stop and resume requests; written by `liverseg study`."""
    return study_prefix(study) + "stops/"


@dataclass(frozen=True)
class Fact:
    """A record whose entries are the fields of a dataclass; read with `record.read`."""

    form: ClassVar[str] = ""
    """Of its key (key_forms.py), where that says a part of what the fact says."""

    def key(self, study: str, **values: str) -> str:
        """Return the key of this fact in a study; `values` are what the fact does not say."""
        return key_of(self.form, study, **vars(self) | values)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


STOPPED_BY_HAND = "stopped: by hand"


@dataclass(frozen=True)
class Heartbeat(Fact):
    """The lease of the controller; a higher generation has taken the study over."""

    generation: Count
    owner: str
    nonce: str
    """Of the study that it runs; after the store was emptied there may be another one."""
    time: float
    """Unix time, for people; the controller is alive while it changes."""
    state: str = "running"
    """What the controller does; "stopped: budget" and STOPPED_BY_HAND are its last words."""
    waiting: dict[str, str] = dataclasses.field(default_factory=dict)
    """By job that was started and waits to be scheduled: what for, in the platform's words."""
    process: str = ""
    """Which process the owner is (platform/process_identity.py); empty: not known."""
    released: bool = False
    """The owner has ended and said so: nobody has to wait for it."""


@dataclass(frozen=True)
class ControllerStart(Fact):
    """Who started a controller, and what it may spend; written once it holds the lease."""

    form: ClassVar[str] = CONTROLLER
    generation: Count
    """Of its lease."""
    user: str
    gpus: Annotated[int, Meta(ge=1)]
    """Trainers at a time."""
    max_gpu_hours: Annotated[float, Meta(gt=0)] | None
    """None: no limit."""
    price_per_gpu_hour: Annotated[float, Meta(ge=0)] | None
    """None: not known."""
    currency: str
    version: str
    """Of liverseg."""
    started: Time


@dataclass(frozen=True)
class Reported(Fact):
    """What a report says of a seed at a rung, in its key too."""

    form: ClassVar[str] = REPORT
    seed: Seed
    rung: AnyRung
    attempt: Count
    best_jaccard: Jaccard | None
    """Highest mean validation Jaccard so far, 0 to 1; None: there is none, ranks last."""
    best_iteration: Count
    last_jaccard: Jaccard | None
    """Mean validation Jaccard at the rung."""

    def score(self, metric: Literal["best", "last"]) -> float | None:
        """Return the value that ranks the seed, 0 to 1, or None."""
        return self.best_jaccard if metric == "best" else self.last_jaccard


@dataclass(frozen=True)
class Report(Reported):
    """A trainer reached its rung and paused; its checkpoint was committed before."""

    iterations: Count
    cases: dict[str, Jaccard | None]
    """Jaccard of every validation case at the best iteration."""
    checkpoint: str
    """Prefix of the checkpoint's bundle."""
    checkpoint_sha256: Sha256
    """Of the checkpoint's manifest.json."""
    weights_sha256: Sha256
    """Of best.safetensors: the weights that would be delivered."""


@dataclass(frozen=True)
class CurvePoint(Fact):
    """One validation of one seed; report, status and dashboard all draw from these."""

    form: ClassVar[str] = CURVE
    seed: Seed
    rung: AnyRung
    attempt: Count
    iteration: Count
    """Counted from the start of the training."""
    jaccard: Jaccard | None
    """Mean over the validation cases, 0 to 1; None: not finite."""
    cases: dict[str, Jaccard | None]
    """Jaccard by case."""
    loss: float | None
    """Mean training loss since the validation before."""
    seconds_per_iteration: Annotated[float, Meta(ge=0)]
    """Of the iterations since the validation before; validating and saving not counted."""
    waiting_share: Annotated[float, Meta(ge=0, le=1)]
    """Share of those seconds spent waiting for patches, 0 to 1."""
    seconds: float
    """Since this attempt's process began."""
    time: float
    """Unix time."""


@dataclass(frozen=True)
class Result(Fact):
    """An arm's end: the winner of the race, or the baseline."""

    seed: Seed
    jaccard: Jaccard | None
    weights_sha256: Sha256
    iterations: Count
    best_iteration: Count
    model: str
    """Prefix of the model's bundle."""


@dataclass(frozen=True)
class Stop(Fact):
    """Somebody stopped the study, or resumed it."""

    stopped: bool
    time: float
    """Unix time."""


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint; its bytes are verified when it is loaded (storage/bundle.py)."""

    iteration: int
    attempt: int
    prefix: str


def read_heartbeat(store: ObjectStore, study: str) -> Heartbeat | None:
    """Return the last controller's lease, or None before the first."""
    return record.find(store, heartbeat_key(study), Heartbeat)


def read_result(store: ObjectStore, study: str, arm: Arm = "multi") -> Result | None:
    """Return the end of an arm, or None before it."""
    return record.find(store, result_key(study, arm), Result)


def ended_arms(store: ObjectStore, study: str) -> dict[Arm, str]:
    """Return the SHA-256 of the delivered weights of every arm that has ended."""
    results = {arm: read_result(store, study, arm) for arm in ARMS}
    return {arm: result.weights_sha256 for arm, result in results.items() if result is not None}


def is_stopped(store: ObjectStore, study: str) -> bool:
    """Return whether the last word of the study's people is to stop."""
    keys = store.keys(stops_prefix(study))
    return bool(keys) and record.read(store, keys[-1], Stop).stopped


def set_stopped(store: ObjectStore, study: str, stopped: bool, time: float) -> bool:
    """Record that somebody stops or resumes the study; False where it is so already."""
    number = len(store.keys(stops_prefix(study)))
    while is_stopped(store, study) != stopped:
        key = f"{stops_prefix(study)}{number:06d}.json"
        # Another person may have been faster: then what they said decides anew.
        if record.write_new(store, key, Stop(stopped, time).to_mapping()):
            return True
        # Nor is a number free where an earlier record was deleted.
        number += 1
    return False


def write_curve(store: ObjectStore, study: str, point: CurvePoint) -> None:
    """Record a validation; the same one that is there already stays as it is."""
    record.write_new(store, point.key(study), point.to_mapping())


def curve_keys(store: ObjectStore, study: str) -> dict[int, list[str]]:
    """Return the keys of all validations by seed, in order of iteration, of the lowest attempts."""
    lowest: dict[tuple[int, int], tuple[int, str]] = {}
    for key in store.keys(curves_prefix(study)):
        at = named(key, CURVE)
        where, point = (at["seed"], at["iteration"]), (at["attempt"], key)
        lowest[where] = min(point, lowest.get(where, point))
    keys: dict[int, list[str]] = {}
    for (seed, _), (_, key) in sorted(lowest.items()):
        keys.setdefault(seed, []).append(key)
    return keys


def best_jaccards(store: ObjectStore, study: str) -> dict[int, float]:
    """Return the highest mean validation Jaccard so far by seed, from the keys alone."""
    best: dict[int, float] = {}
    for at in (named(key, CURVE) for key in store.keys(curves_prefix(study))):
        if at["jaccard"] is not None:
            best[at["seed"]] = max(best.get(at["seed"], 0.0), float(at["jaccard"]))
    return best


def checkpoints(store: ObjectStore, study: str, seed: int) -> list[Checkpoint]:
    """Return a seed's committed checkpoints, newest first; of one iteration the lowest attempt."""
    committed = []
    for key in store.keys(checkpoints_prefix(study, seed)):
        if key.endswith("/manifest.json"):
            at, prefix = named(key, CHECKPOINT), key.removesuffix("manifest.json")
            committed.append(Checkpoint(at["iteration"], at["attempt"], prefix))
    return sorted(committed, key=lambda c: (-c.iteration, c.attempt))

"""A study that extends another one: from which of the parent's checkpoints seeds may continue."""

from contextlib import suppress

from liverseg.errors import IntegrityError, NotFound
from liverseg.race.records import facts
from liverseg.race.records.facts import Checkpoint
from liverseg.race.records.key_forms import CHECKPOINT, pattern
from liverseg.race.records.study import Spec, Study, load_study
from liverseg.settings import BASELINE_SEED
from liverseg.storage import bundle, record
from liverseg.storage.port import ObjectStore


def checkpoints(store: ObjectStore, study: Study, seed: int) -> list[Checkpoint]:
    """Return what a seed may resume from, newest first: its own, then what its ancestors left."""
    resumable = facts.checkpoints(store, study.id, seed)
    for ancestor in (load_study(store, id_) for id_ in ids(store, study.id)[1:]):
        saved = facts.checkpoints(store, ancestor.id, seed)
        resumable += [c for c in saved if same_so_far(ancestor, study, seed, c.iteration)]
    return sorted(resumable, key=lambda saved: -saved.iteration)


def remove_superseded(store: ObjectStore, study: Study, seed: int, iteration: int) -> None:
    """Remove a seed's checkpoints from before `iteration`, at which it has committed one.

    What the seed came to a rung with stays: decide/checkpoint_retention.py knows when it may go.
    """
    rungs = {rung.iterations for rung in study.rungs}
    keys = store.keys(facts.checkpoints_prefix(study.id, seed))
    # The manifest first, so that what is left of a bundle never counts; and what a crash left
    # of one that never got its manifest goes, too.
    for key in sorted(keys, key=lambda k: not k.endswith(bundle.MANIFEST)):
        match = pattern(CHECKPOINT).fullmatch(key)
        # What is no file of a checkpoint is not ours to delete.
        if match and iteration > (before := int(match["iteration"])) and before not in rungs:
            store.delete(key)


def ids(store: ObjectStore, study: str) -> tuple[str, ...]:
    """Return the study and its ancestors, as far as their specs can be read."""
    studies: list[str] = []
    parent: str | None = study
    with suppress(NotFound, IntegrityError):
        while parent is not None and parent not in studies:
            studies.append(parent)
            parent = record.read(store, facts.spec_key(parent), Spec).parent
    return tuple(studies)


def same_so_far(one: Study, other: Study, seed: int, iteration: int) -> bool:
    """Return whether both studies validate this seed at the same iterations up to `iteration`.

    A validation more may be a better best, so that the weights delivered would be others.
    """
    return _validations(one, seed, iteration) == _validations(other, seed, iteration)


def _validations(study: Study, seed: int, until: int) -> set[int]:
    """Return the iterations up to `until` at which only this study's rungs make it validate."""
    rungs = study.rungs[-1:] if seed == BASELINE_SEED else study.rungs
    interval = study.settings.training.validation_interval
    return {r.iterations for r in rungs if r.iterations <= until and r.iterations % interval}

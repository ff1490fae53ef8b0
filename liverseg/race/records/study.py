"""A study: one race, made of settings and a dataset, whose id is their hash."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

from liverseg import __version__
from liverseg.core.data.dataset import Dataset
from liverseg.core.race.halving import Rung, schedule
from liverseg.errors import IntegrityError, NotFound, SettingsError, StudyError
from liverseg.race.records import facts
from liverseg.race.records.facts import Fact
from liverseg.settings import (
    NOT_IN_IDS,
    TRAINING_VERSION,
    Settings,
    differing,
    digest,
    from_mapping,
    to_mapping,
)
from liverseg.storage import record
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import Count, Sha256

_ID_LENGTH = 12
Nonce = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")]


@dataclass(frozen=True)
class Study:
    """Settings and data of one race."""

    id: str
    settings: Settings
    dataset: Dataset
    nonce: str
    """Chosen when the study was opened in its store: the same study in another store, or in this
    one after it was emptied, is another race, and its jobs are not touched."""
    parent: str | None = None
    """Id of the study that this one extends; no part of its own id."""

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The schedule (docs/method.md section 9)."""
        race = self.settings.race
        return schedule(race.seeds, race.minimum_iterations, race.maximum_iterations, race.eta)


@dataclass(frozen=True)
class Spec(Fact):
    """What a study is, as spec.json has it; written when the study is opened."""

    study: str
    nonce: Nonce
    settings: dict[str, Any]
    dataset: Dataset
    dataset_sha256: Sha256
    training_version: Count
    code_version: str
    time: float
    """Unix time."""
    parent: str | None


def study_id(settings: Settings, dataset: Dataset) -> str:
    """Return the hash of everything that weights depend on."""
    return recorded_id(to_mapping(settings), dataset.digest)


def recorded_id(settings: Mapping[str, Any], dataset: str) -> str:
    """Return the id of a spec.json of this TRAINING_VERSION; `dataset` is the digest.

    Of the settings what differs from the defaults counts, without NOT_IN_IDS: a setting that is
    added with a default leaves every id as it was. Another version has other defaults.
    """
    named = {topic: values for topic, values in settings.items() if topic not in NOT_IN_IDS}
    different = differing(named, to_mapping(Settings()))
    whole = {"settings": different, "dataset": dataset, "training_version": TRAINING_VERSION}
    return digest(whole)[:_ID_LENGTH]


def open_study(
    store: ObjectStore,
    settings: Settings,
    dataset: Dataset,
    clock: Callable[[], float] = time.time,
    parent: str | None = None,
    nonce: Callable[[], str] = lambda: secrets.token_hex(4),
) -> Study:
    """Return the study of these settings and data; whoever opens it second gets the first nonce.

    Raises SettingsError where the cases were prepared with other settings.
    """
    # The network would be trained on one grid and described, and used, as one of another.
    for name, value, scanned in dataset.scanned_with_other(settings):
        raise SettingsError(
            f"setting '{name}' is {value!r}, the data set was scanned with {scanned!r}; scan and "
            "preprocess it with these settings first"
        )
    study = study_id(settings, dataset)
    spec = Spec(
        study=study,
        nonce=nonce(),
        settings=to_mapping(settings),
        dataset=dataset,
        dataset_sha256=dataset.digest,
        training_version=TRAINING_VERSION,
        code_version=__version__,
        time=clock(),
        parent=parent,
    )
    record.write_new(store, facts.spec_key(study), spec.to_mapping())
    # Read back: somebody else may have been first, also where the store told both that they were.
    return load_study(store, study)


def load_study(store: ObjectStore, study: str) -> Study:
    """Return a study by its id; StudyError where there is none, IntegrityError if it is damaged."""
    key = facts.spec_key(study)
    try:
        spec = record.read(store, key, Spec)
        settings = from_mapping(spec.settings)
    except NotFound:
        require_known(store, study)
        raise
    except (IntegrityError, SettingsError) as exc:
        raise IntegrityError(
            f"{exc} ('{key}'; if another version of liverseg opened this study, start it anew in "
            "an empty store)"
        ) from exc
    if spec.dataset.digest != spec.dataset_sha256:
        raise IntegrityError(
            f"'{key}' is damaged: its data set's digest is {spec.dataset.digest}, "
            f"field 'dataset_sha256' is {spec.dataset_sha256}"
        )
    return Study(study, settings, spec.dataset, spec.nonce, spec.parent)


def stored_nonce(store: ObjectStore, study: str) -> str | None:
    """Return the nonce of a study as the store has it now, or None where it has no such study."""
    spec = record.find(store, facts.spec_key(study), Spec)
    return None if spec is None else spec.nonce


def study_ids(store: ObjectStore) -> list[str]:
    """Return the ids of all studies in the store, sorted."""
    # Something may be left of a study that was deleted, but no spec.
    specs = {id_: facts.spec_key(id_) for id_ in store.folders("studies/")}
    return [id_ for id_, key in specs.items() if key in store.keys(key)]


def require_known(store: ObjectStore, study: str) -> None:
    """Raise StudyError where the store has no study of that name."""
    known = study_ids(store)
    if study not in known:
        raise StudyError(f"the store has no study '{study}'; known: {', '.join(known) or 'none'}")


def require_current(study: Study) -> None:
    """Raise StudyError if this version of liverseg would train the study to other weights."""
    current = study_id(study.settings, study.dataset)
    if current != study.id:
        raise StudyError(
            f"study {study.id} was opened by another version of liverseg; this one would train "
            f"the same settings and data as study {current}"
        )

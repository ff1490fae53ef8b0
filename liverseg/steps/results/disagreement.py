"""What several seeds are worth: how the seeds of the third-last rung differ on the test cases.

Their best states at that rung are kept anyway (race/decide/checkpoint_retention.py), and all have
trained equally long. The winner's segmentation is what they are held against, lesion by lesion.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from liverseg.core.data.dataset import CaseRecord
from liverseg.core.evaluation import disagreement
from liverseg.core.evaluation.disagreement import Votes
from liverseg.core.volumes.volume import Mask, Volume
from liverseg.errors import IntegrityError, NotFound, StudyError
from liverseg.imaging import files
from liverseg.imaging.stored_file import StoredFile
from liverseg.race.decide.checkpoint_retention import LAST_RUNGS
from liverseg.race.decide.state import fold
from liverseg.race.records import facts
from liverseg.race.records.facts import Report
from liverseg.race.records.reports import read_report
from liverseg.race.records.snapshot import SnapshotReader
from liverseg.race.records.study import Study
from liverseg.settings import PREDICTION_VERSION, SliceAxis
from liverseg.steps.data.cases import (
    VOTES_FILE,
    load_case,
    prediction_prefix,
    segmentation_prefix,
    votes_prefix,
)
from liverseg.steps.results import postprocess, result_keys
from liverseg.steps.results.evaluate import load_segmentation
from liverseg.storage import bundle, record
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import Sha256


@dataclass(frozen=True)
class LesionDisagreement(disagreement.Lesion):
    """One lesion, as the document has it."""

    ml: float


@dataclass(frozen=True)
class CaseDisagreement:
    """One case, as the document has it."""

    uncertainty: float
    lesions: tuple[LesionDisagreement, ...]


@dataclass(frozen=True)
class Disagreement:
    """The document, see `load`."""

    study: str
    rung: int | None
    iterations: int | None
    weights: dict[str, Sha256]
    winner: Sha256
    prediction_version: int
    why_not: str | None
    cases: dict[str, CaseDisagreement]


def networks(store: ObjectStore, study: Study) -> list[Report]:
    """Return the reports of the third-last rung that have a best state, by seed.

    With fewer rungs those of the first.
    """
    snapshot = SnapshotReader(store, study.id).read()
    # Whatever the lease generation: those that reported are wanted.
    rung = fold(study.rungs, study.settings.race, snapshot, generation=-1).rungs[-LAST_RUNGS:][0]
    keys = [state.report for state in rung.seeds.values() if state.report is not None]
    return [read_report(store, study.id, key) for key in keys if key.best_jaccard is not None]


def run(store: ObjectStore, study: Study) -> dict[str, Any]:
    """Compare the networks' segmentations of the test cases; return what `load` reads.

    What was computed for the same networks and the same winner is read back. Raises StudyError
    where the race has no winner, or its segmentations are missing.
    """
    recorded = load_current(store, study)
    if recorded is not None:
        return recorded
    winner = facts.ended_arms(store, study.id).get("multi")
    if winner is None:
        raise StudyError(f"study {study.id} has no winner yet; run the race to its end first")
    reports = networks(store, study)
    why_not = _why_not(store, study, reports)
    cases = {}
    if why_not is None:
        for report in reports:
            postprocess.run(store, study, report.weights_sha256)
        for test in study.dataset.role("test"):
            slice_axis = study.settings.preparation.slice_axis
            cases[test.name] = _compared(store, test, reports, winner, slice_axis)
    document = {
        "study": study.id,
        "rung": reports[0].rung if reports else None,
        "iterations": reports[0].iterations if reports else None,
        "weights": _weights(reports),
        "winner": winner,
        "prediction_version": PREDICTION_VERSION,
        "why_not": why_not,
        "cases": cases,
    }
    record.write(store, result_keys.disagreement_key(study.id), document)
    return load(store, study.id)


def load(store: ObjectStore, study: str) -> dict[str, Any]:
    """Return where a study's networks differ.

    Raises StudyError where nobody has looked, and IntegrityError where the document is damaged.

    Keys: `study`; `rung` and `iterations` of the networks; `weights`, their SHA-256 by seed;
    `winner`, the SHA-256 of the network whose lesions are counted; `prediction_version`;
    `why_not`, why there are no numbers, else None; `cases`, by name `uncertainty` (1 minus the
    networks' mean Dice with each other) and `lesions`, each with `number`, `voxels`, `ml`, `slice`
    and `uncertainty` (see core/evaluation/disagreement.py).
    """
    try:
        return _read(store, study)
    except NotFound as error:
        raise StudyError(
            f"study {study} has not compared its seeds; run `liverseg postprocess` first"
        ) from error


def load_current(store: ObjectStore, study: Study) -> dict[str, Any] | None:
    """Return the numbers where they and the votes are those of the present networks, else None."""
    try:
        document = _read(store, study.id)
    except (NotFound, IntegrityError):
        # A damaged one is computed anew.
        return None
    weights = _weights(networks(store, study))
    recorded_for = (document["weights"], document["winner"], document["prediction_version"])
    current = (weights, facts.ended_arms(store, study.id).get("multi"), PREDICTION_VERSION)
    prefixes = [votes_prefix(weights.values(), c.key) for c in study.dataset.role("test")]
    if document["why_not"] is not None or recorded_for != current:
        return None
    return document if all(bundle.exists(store, prefix) for prefix in prefixes) else None


def load_votes(
    store: ObjectStore, document: Mapping[str, Any], key: str, slice_axis: SliceAxis
) -> Votes:
    """Return how many networks call each voxel a lesion (z, y, x), on the file's grid.

    `document` is what `load` returns. Raises StudyError where that is not in the store.
    """
    try:
        data = bundle.load(store, votes_prefix(document["weights"].values(), key))[VOTES_FILE]
    except NotFound as error:
        raise StudyError(
            f"case {key[:12]} has no votes of several seeds; run `liverseg postprocess` first"
        ) from error
    file = StoredFile(Path(VOTES_FILE), data)
    counted: Votes = files.decode(file, slice_axis).voxels.astype(np.uint8)
    return counted


def worth(document: Mapping[str, Any], dice: Mapping[str, float]) -> dict[str, Any]:
    """Return how well the cases' uncertainty predicts the Dice, ready for a page.

    `dice` is the winner's by case. Keys: `rank_correlation` (the nearer to -1, the better; None
    where it is not defined), `n` and `cases`, each with `case`, `uncertainty` and `dice`.
    """
    rows = [
        {"case": case, "uncertainty": values["uncertainty"], "dice": dice[case]}
        for case, values in document["cases"].items()
    ]
    sides = [row["uncertainty"] for row in rows], [row["dice"] for row in rows]
    return {
        "rank_correlation": disagreement.rank_correlation(*sides),
        "n": len(rows),
        "cases": rows,
    }


def _read(store: ObjectStore, study: str) -> dict[str, Any]:
    key = result_keys.disagreement_key(study)
    data = store.get(key)
    record.decode(data, key, Disagreement)
    return record.decode(data, key)


def _weights(reports: list[Report]) -> dict[str, str]:
    return {str(report.seed): report.weights_sha256 for report in reports}


def _why_not(store: ObjectStore, study: Study, reports: list[Report]) -> str | None:
    if len(reports) < 2:
        return "fewer than two networks have reached the third-last rung"
    if len(reports) > disagreement.MOST_NETWORKS:
        return f"{len(reports)} networks are more than {disagreement.MOST_NETWORKS}"
    for report in reports:
        for test in study.dataset.role("test"):
            prefixes = (prediction_prefix, segmentation_prefix)
            if not any(bundle.exists(store, p(report.weights_sha256, test.key)) for p in prefixes):
                return (
                    f"the network of seed {report.seed} at rung {report.rung} has not predicted "
                    f"case {test.name}; if its checkpoint was deleted, it cannot any more"
                )
    return None


def _compared(
    store: ObjectStore,
    test: CaseRecord,
    reports: list[Report],
    winner: str,
    slice_axis: SliceAxis,
) -> dict[str, Any]:
    """Write a case's votes and return its numbers."""
    weights = [report.weights_sha256 for report in reports]
    masks: list[Mask] = [
        load_segmentation(store, sha256, test.key, slice_axis) for sha256 in weights
    ]
    counted = disagreement.votes(masks)
    geometry = load_case(store, test.key).original_geometry
    data = files.nifti_bytes(Volume(counted, geometry))
    bundle.commit(store, votes_prefix(weights, test.key), {VOTES_FILE: data})
    segmentation = load_segmentation(store, winner, test.key, slice_axis)
    voxel_ml = float(np.prod(geometry.spacing_mm)) / 1000
    return {
        "uncertainty": disagreement.case_uncertainty(masks),
        "lesions": [
            asdict(lesion) | {"ml": lesion.voxels * voxel_ml}
            for lesion in disagreement.lesions(segmentation, counted, len(masks))
        ],
    }

"""What several seeds are worth, as the report shows it."""

from collections.abc import Mapping
from typing import Any

from liverseg.core.data.dataset import CaseRecord
from liverseg.core.evaluation.disagreement import disagreement as split
from liverseg.errors import StudyError
from liverseg.race.records.study import Study
from liverseg.reporting import figures
from liverseg.settings import SliceAxis
from liverseg.steps.data.cases import load_case
from liverseg.steps.report.report_figures import original
from liverseg.steps.results import disagreement
from liverseg.steps.results.evaluate import load_segmentation
from liverseg.storage.port import ObjectStore


def section(store: ObjectStore, study: Study, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the section; `why_not` says why it is left out, else None.

    `evaluation` is what `steps.evaluate.load_evaluation` returns.
    """
    try:
        compared = disagreement.load(store, study.id)
    except StudyError as error:
        return {"why_not": str(error)}
    if compared["why_not"] is not None:
        return {"why_not": compared["why_not"]}
    winner = evaluation["arms"]["multi"]
    if compared["winner"] != winner["weights_sha256"]:
        return {"why_not": "they were compared with another winner's segmentations"}
    dice = {
        name: sum(values["dice"].values()) / len(values["dice"])
        for name, values in winner["cases"].items()
    }
    return {
        "why_not": None,
        "seeds": sorted(int(seed) for seed in compared["weights"]),
        "rung": compared["rung"],
        "iterations": compared["iterations"],
        **disagreement.worth(compared, dice),
        "lesions": [
            {"case": name} | lesion
            for name, values in compared["cases"].items()
            for lesion in values["lesions"]
        ],
        "pictures": [
            _picture(store, case, compared, study.settings.preparation.slice_axis)
            for case in study.dataset.role("test")
        ],
    }


def _picture(
    store: ObjectStore, record: CaseRecord, compared: Mapping[str, Any], slice_axis: SliceAxis
) -> dict[str, Any]:
    """Draw where the seeds are split on a test case, beside the winner's segmentation."""
    case = load_case(store, record.key)
    votes = disagreement.load_votes(store, compared, record.key, slice_axis)
    return {
        "name": record.name,
        "synthetic": record.synthetic,
        "picture": figures.disagreement(
            original(case),
            case.original_liver,
            load_segmentation(store, compared["winner"], record.key, slice_axis),
            split(votes, len(compared["weights"])),
            case.original_geometry.spacing_mm,
        ),
    }

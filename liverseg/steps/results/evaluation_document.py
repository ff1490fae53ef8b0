"""What an evaluation is written as: schemas/evaluation-1.json, of files and of a study alike."""

from collections.abc import Sequence

from liverseg import __version__
from liverseg.core.evaluation import comparison, detection, lesion_cluster, statistics
from liverseg.core.evaluation.case import Values

SCHEMA = "liverseg/evaluation-1"


def document(
    cases: Sequence[Values],
    raters: Sequence[str],
    algorithms: Sequence[str],
    *,
    excluded: Sequence[tuple[str, str]] = (),
    labels: Sequence[int] = (),
    liver: bool = False,
    liver_labels: Sequence[int] = (),
    plain_masks: Sequence[str] = (),
    resampled: bool = False,
) -> Values:
    """Return cases with their summary, tests and the settings they were made with.

    `cases` are what `evaluate_case` gives; `excluded` are cases and why they are not among them.
    """
    return {
        "schema": SCHEMA,
        "version": __version__,
        "settings": {
            "labels": list(labels) or None,
            "liver": liver,
            "liver_labels": list(liver_labels) or None,
            "plain_masks": list(plain_masks),
            "resample_prediction": "nearest" if resampled else None,
            "minimum_dice": detection.MINIMUM_DICE,
            "subset_cap": lesion_cluster.SUBSET_CAP,
            "resamples": statistics.RESAMPLES,
            "seed": statistics.SEED,
            "confidence": statistics.CONFIDENCE,
            "false_discovery_rate": statistics.FALSE_DISCOVERY_RATE,
        },
        "raters": list(raters),
        "algorithms": list(algorithms),
        "cases": list(cases),
        "excluded": [{"case": case, "reason": reason} for case, reason in excluded],
        "summary": {name: comparison.summary(cases, name) for name in algorithms},
        "rater_summary": comparison.rater_summary(cases),
        "lesion_recall_by_diameter": {
            name: {r: comparison.recall_by_diameter(cases, name, r) for r in raters}
            for name in algorithms
        },
        "tests": comparison.paired_tests(cases, algorithms, raters),
    }

"""Algorithms over all cases: figures, lesion recall by diameter, and tests by pair.

Takes the entries that `evaluate_case` gives (docs/method.md section 14, 'Statistics').
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from liverseg.core.evaluation.case import Values, measures, rater_measures
from liverseg.core.evaluation.measures import ALL
from liverseg.core.evaluation.statistics import FALSE_DISCOVERY_RATE, adjusted, summarise, wilcoxon

DIAMETERS_MM = (10.0, 20.0)
"""Lesions below the first, between, and from the last on: the limits of LI-RADS."""


def summary(cases: Sequence[Values], algorithm: str) -> Values:
    """Return mean, sd, median, n, n_nan and ci95 by measure of one algorithm."""
    return _summaries([measures(case, algorithm) for case in cases])


def rater_summary(cases: Sequence[Values]) -> Values:
    """Return the same of the raters among themselves; empty where no case has two."""
    values = [rater_measures(case) for case in cases if case["rater_dice"]]
    return _summaries(values)


def recall_by_diameter(cases: Sequence[Values], algorithm: str, rater: str) -> list[Values]:
    """Return of the rater's lesions of all cases, by diameter, how many the algorithm matched."""
    lesions = [
        lesion
        for case in cases
        if algorithm in case["algorithms"] and rater in case["lesion_diameters_mm"]
        for lesion in zip(
            case["lesion_diameters_mm"][rater],
            case["algorithms"][algorithm]["detection"]["found"][rater],
            strict=True,
        )
    ]
    limits = [0.0, *DIAMETERS_MM, None]
    rows = []
    for low, high in itertools.pairwise(limits):
        assert low is not None
        hits = [hit for mm, hit in lesions if mm >= low and (high is None or mm < high)]
        recall = sum(hits) / len(hits) if hits else None
        rows.append(
            {
                "from_mm": low,
                "below_mm": high,
                "references": len(hits),
                "found": sum(hits),
                "recall": recall,
            }
        )
    return rows


def families(raters: Sequence[str]) -> dict[str, list[str]]:
    """Return the measures that are tested and adjusted together: 5 and 12 with three raters."""
    by_family: dict[str, list[str]] = {}
    for measure in ALL:
        if measure.family is not None:
            by_family.setdefault(measure.family, []).extend(measure.names(raters))
    return by_family


def paired_tests(
    cases: Sequence[Values], algorithms: Sequence[str], raters: Sequence[str]
) -> list[Values]:
    """Test every pair of algorithms; p is adjusted within the pair's family.

    The first algorithm's values come first in every difference.
    """
    return [
        row
        for pair in itertools.combinations(algorithms, 2)
        for family, names in families(raters).items()
        for row in _family(cases, pair, family, names)
    ]


def _family(
    cases: Sequence[Values], pair: tuple[str, str], family: str, names: Sequence[str]
) -> list[Values]:
    first, second = ([measures(case, algorithm) for case in cases] for algorithm in pair)
    tests = [
        wilcoxon([c.get(name) for c in first], [c.get(name) for c in second]) for name in names
    ]
    corrected = adjusted([test.p for test in tests])
    return [
        {"algorithms": list(pair), "measure": name, "family": family}
        | asdict(test)
        | {"p_adjusted": p, "rejected": None if p is None else p <= FALSE_DISCOVERY_RATE}
        for name, test, p in zip(names, tests, corrected, strict=True)
    ]


def _summaries(cases: Sequence[dict[str, float | None]]) -> dict[str, Any]:
    """Summarise by name; a case without the name counts as one without the value."""
    names = dict.fromkeys(name for values in cases for name in values)
    return {name: asdict(summarise([v.get(name) for v in cases])) for name in names}

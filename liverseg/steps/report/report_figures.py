"""The figures of a study's report, from what lies in the store."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from liverseg.core.data.case import PreparedCase
from liverseg.core.data.dataset import CaseRecord
from liverseg.core.evaluation.measures import MEAN
from liverseg.core.race.ledger import Span
from liverseg.core.volumes.volume import FloatArray, Mask
from liverseg.exit_codes import ExitCode
from liverseg.imaging.resampling import in_plane
from liverseg.reporting import charts, figures
from liverseg.settings import SliceAxis
from liverseg.steps.data.cases import load_case
from liverseg.steps.results.evaluate import NAMES, load_segmentation
from liverseg.storage.port import ObjectStore

Curves = Mapping[int, Sequence[Mapping[str, Any]]]


def figure_5(spans: Sequence[Span], curves: Curves) -> Figure:
    """Draw finished trainings and losses over wall clock for every rung, without the baseline."""
    raced = [s for s in spans if s.rung != "baseline" and s.samples]
    start = min((s.samples[0].time for s in raced), default=0.0)
    finished: dict[int, list[float]] = {}
    for span in raced:
        if span.exit_code == ExitCode.DONE:
            hours = (span.samples[-1].time - start) / 3600
            finished.setdefault(int(span.rung), []).append(hours)
    losses: dict[int, list[tuple[float, float]]] = {}
    for points in curves.values():
        for point in points:
            if point["rung"] != "baseline" and point["loss"] is not None:
                hours = (point["time"] - start) / 3600
                losses.setdefault(int(point["rung"]), []).append((hours, point["loss"]))
    return charts.race(finished, losses)


def by_rule(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the best, the median and the worst case by A1's mean Dice.

    Of two in the middle the worse one; fewer cases have fewer of them. Ties: the first by name.
    """
    dice = {c["case"]: c["algorithms"]["A1"]["dice"][MEAN] for c in document["cases"]}
    order = sorted(dice, key=lambda case: (dice[case], case))
    if not order:
        return {}
    if len(order) < 3:
        return dict(zip(("best", "worst"), reversed(order), strict=False))
    return {"best": order[-1], "median": order[(len(order) - 1) // 2], "worst": order[0]}


def pictures(
    store: ObjectStore,
    record: CaseRecord,
    evaluation: Mapping[str, Any],
    slice_axis: SliceAxis,
) -> dict[str, Any]:
    """Draw a test case on its original grid: what the raters saw, not what the network saw.

    Returns `name`, `synthetic`, `dice` (of the winner, mean over raters), `figure` of the slices
    with most lesion, and `all`, every slice with a contour, for the page.
    """
    case = load_case(store, record.key)
    masks: dict[str, Mask] = {
        NAMES[arm]: load_segmentation(store, values["weights_sha256"], record.key, slice_axis)
        for arm, values in evaluation["arms"].items()
        if values["weights_sha256"] is not None
    }
    shown = (original(case), case.original_liver, case.original_raters, masks)
    spacing = case.original_geometry.spacing_mm
    dice = list(evaluation["arms"]["multi"]["cases"][record.name]["dice"].values())
    return {
        "name": record.name,
        "synthetic": record.synthetic,
        "dice": sum(dice) / len(dice),
        "figure": figures.slices(*shown, spacing),
        "all": figures.slices_uri(figures.slices(*shown, spacing, count=None)),
    }


def original(case: PreparedCase) -> FloatArray:
    """Return the image on its original grid, with the grey values that the network saw."""
    spacing, (_, *size) = case.original_geometry.spacing_mm, case.original_geometry.shape
    return in_plane(case.image, case.spacing_mm[1:], (size[0], size[1]), spacing[1:], "linear")

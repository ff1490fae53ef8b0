"""The paper's figures 2 and 5 for a study of one's own."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from liverseg.core.evaluation.agreement import AS_GOOD_AS_RATERS, mean
from liverseg.reporting.figures import ALGORITHM_COLOURS

MOST_NAMES = 40
"""More names of cases than these would lie on each other."""
RATER_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Score by algorithm, by case, by rater.
Scores = Mapping[str, Mapping[str, Mapping[str, float | None]]]


def agreement(
    dice: Scores,
    between_raters: Mapping[str, float | None],
    phi: Mapping[str, Mapping[str, float | None]],
) -> Figure:
    """Draw figure 2: Dice by case and rater, mean Dice against that of the raters, phi.

    With one rater only the first panel: there is nothing to compare with.

    Args:
        dice: By algorithm, case and rater; 0 to 1.
        between_raters: By case, mean Dice of its pairs of raters; None with fewer than two.
        phi: Uncertainty-aware score by algorithm and case; None with fewer than two raters.
    """
    has_raters = any(value is not None for value in between_raters.values())
    figure = Figure(figsize=(13 if has_raters else 7, 4.2), layout="constrained")
    if has_raters:
        by_case, against, scores = figure.subplots(1, 3, width_ratios=(2, 1, 1.4))
    else:
        by_case, against, scores = figure.subplots(), None, None
    cases = list(between_raters)
    width = min(0.25, 0.8 / max(len(dice), 1))
    raters = sorted({r for per_case in dice.values() for case in per_case.values() for r in case})
    for position, (name, per_case) in enumerate(dice.items()):
        colour = ALGORITHM_COLOURS[position % len(ALGORITHM_COLOURS)]
        beside = (position - (len(dice) - 1) / 2) * width
        for marker, rater in zip(RATER_MARKERS * 3, raters, strict=False):
            points = [
                (i + beside, v)
                for i, c in enumerate(cases)
                if (v := per_case.get(c, {}).get(rater)) is not None
            ]
            label = f"{name}, {rater}"
            by_case.scatter(
                *_columns(points), color=colour, marker=marker, s=18, alpha=0.8, label=label,
                clip_on=False,
            )  # fmt: skip
        if against is None or scores is None:
            continue
        means = {case: mean(list(per_case.get(case, {}).values())) for case in cases}
        pairs = [
            (b, m) for c in cases
            if (b := between_raters.get(c)) is not None and (m := means[c]) is not None
        ]  # fmt: skip
        against.scatter(*_columns(pairs), color=colour, s=22, label=name, clip_on=False)
        bars = [(i + beside, v) for i, c in enumerate(cases) if (v := phi[name].get(c)) is not None]
        scores.bar(*_columns(bars), width=0.9 * width, color=colour, label=name)
    _by_case(by_case, cases, "Dice")
    if dice:
        by_case.legend(fontsize=7, ncols=6, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    if against is None or scores is None:
        return figure
    against.plot((0, 1), (0, 1), color="#bbbbbb", linewidth=0.8)
    against.set(
        xlabel="mean Dice between raters", ylabel="mean Dice of the algorithm",
        xlim=(0, 1), ylim=(0, 1), aspect="equal",
    )  # fmt: skip
    scores.axhline(AS_GOOD_AS_RATERS, color="#444444", linewidth=0.9, linestyle="--")
    scores.annotate("as good as the raters", (0, AS_GOOD_AS_RATERS), (2, 2), fontsize=7,
                    textcoords="offset points")  # fmt: skip
    _by_case(scores, cases, "uncertainty-aware score")
    return figure


def race(
    finished: Mapping[int, Sequence[float]], losses: Mapping[int, Sequence[tuple[float, float]]]
) -> Figure:
    """Draw figure 5: finished trainings and losses over wall clock, a colour for each rung.

    Args:
        finished: By rung, when each of its trainings reported, in hours from the race's start.
        losses: By rung, (hours, training loss) of every validation in it.
    """
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    runs, curves = figure.subplots(1, 2)
    for rung in sorted(finished):
        colour = ALGORITHM_COLOURS[rung % len(ALGORITHM_COLOURS)]
        times = sorted(finished[rung])
        runs.step([0.0, *times], range(len(times) + 1), where="post", color=colour,
                  label=f"rung {rung}")  # fmt: skip
        curves.scatter(*_columns(sorted(losses.get(rung, ()))), color=colour, s=4)
    runs.set(xlabel="hours", ylabel="finished trainings", ylim=(0, None), xlim=(0, None))
    runs.yaxis.set_major_locator(MaxNLocator(integer=True))
    if finished:
        runs.legend(fontsize=8, frameon=False)
    curves.set(xlabel="hours", ylabel="training loss", xlim=(0, None))
    return figure


def _by_case(axes: Axes, cases: Sequence[str], what: str) -> None:
    if len(cases) > MOST_NAMES:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(cases)} cases")
    else:
        axes.set_xticks(range(len(cases)), cases, rotation=90 if len(cases) > 4 else 0, fontsize=7)
    axes.set(ylabel=what, ylim=(0, 1.02))


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]

import io

from matplotlib.figure import Figure

from liverseg.reporting import charts


def drawn(figure: Figure) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="svg")
    return target.getvalue()


DICE = {
    "A1": {"a": {"R1": 0.8, "R2": 0.6}, "b": {"R1": 0.9}},
    "A2": {"a": {"R1": 0.5, "R2": 0.4}, "b": {"R1": 0.7}},
}


def test_figure_2_has_every_score_and_leaves_out_what_is_undefined() -> None:
    figure = charts.agreement(DICE, {"a": 0.7, "b": None}, {n: {"a": 0.8, "b": None} for n in DICE})
    by_case, against, scores = figure.axes
    heights = [y for c in by_case.collections for y in c.get_offsets()[:, 1]]
    assert sorted(heights) == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    points = [tuple(p) for c in against.collections for p in c.get_offsets()]
    assert points == [(0.7, 0.7), (0.7, 0.45)]
    assert [bar.get_height() for bar in scores.patches] == [0.8, 0.8]
    assert b"<svg" in drawn(figure)


def test_figure_2_of_one_rater_compares_with_nobody() -> None:
    figure = charts.agreement({"A1": {"a": {"R1": 0.8}}}, {"a": None, "b": None}, {"A1": {}})
    (by_case,) = figure.axes
    assert [t.get_text() for t in by_case.get_xticklabels()] == ["a", "b"]
    assert [float(c.get_offsets()[0, 1]) for c in by_case.collections] == [0.8]


def test_figure_5_counts_finished_trainings_over_time() -> None:
    figure = charts.race({0: [2.0, 1.0], 1: [3.0]}, {0: [(0.5, 0.9), (1.0, 0.5)]})
    steps = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert steps == {
        "rung 0": [[0, 0], [1, 1], [2, 2]],
        "rung 1": [[0, 0], [3, 1]],
    }
    assert b"<svg" in drawn(figure)


def test_without_any_score_there_is_still_a_picture() -> None:
    assert b"<svg" in drawn(charts.agreement({}, {}, {}))
    assert b"<svg" in drawn(charts.race({}, {}))

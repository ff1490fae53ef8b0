"""Draw every dashboard as a picture of what a running Prometheus answers to its queries.

    python -m monitoring.draw http://127.0.0.1:9090 FOLDER [HOURS]

It shows what Grafana would have to show, and is no picture of Grafana.
"""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl

from monitoring.ask import Answer, Prometheus
from monitoring.dashboards import DASHBOARDS
from monitoring.dashboards.panels import COLUMNS, Dashboard, Panel

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

# Inches: a column of 24, and a row.
_CELL = (0.6, 0.36)
_MOST = 12
Curves = list[tuple[str, list[tuple[float, str]]]]
_FACTORS = {"percentunit": (100.0, " %"), "s": (1.0, " s"), "bytes": (1e-9, " GB")}


def draw(dashboard: Dashboard, answers: dict[str, list[Answer]], path: Path) -> None:
    """Write a dashboard as a picture; `answers` by the titles of its panels."""
    boxes = [panel["gridPos"] for panel in dashboard.json()["panels"]]
    rows = max(at["y"] + at["h"] for at in boxes)
    figure = plt.figure(figsize=(COLUMNS * _CELL[0], rows * _CELL[1]), dpi=80)
    for panel, at in zip(dashboard.panels, boxes, strict=True):
        box = (
            (at["x"] + 1.2) / COLUMNS,
            1 - (at["y"] + at["h"] - 0.9) / rows,
            (at["w"] - 1.6) / COLUMNS,
            (at["h"] - 2.2) / rows,
        )
        _panel(figure.add_axes(box), panel, answers[panel.title])
    figure.savefig(path)
    plt.close(figure)


def _panel(axes: Axes, panel: Panel, answers: list[Answer]) -> None:
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.tick_params(labelsize=6)
    axes.spines[["top", "right"]].set_visible(False)
    curves: Curves = [(_name(a, one["metric"]), one["values"]) for a in answers for one in a.series]
    if not curves:
        reasons = "; ".join(sorted({a.query.absent for a in answers}))
        _text(axes, f"absent in this race: {reasons}", "grey")
    elif panel.kind == "timeseries":
        _lines(axes, panel, curves[: 2 * _MOST])
    elif panel.kind == "bargauge":
        _bars(axes, panel, curves[:_MOST])
    else:
        lines = [f"{name}: {_shown(panel, points[-1][1])}" for name, points in curves[:_MOST]]
        _text(axes, "\n".join(lines), "black")


def _bars(axes: Axes, panel: Panel, curves: Curves) -> None:
    values = [_scaled(panel, v[-1][1]) for _, v in curves]
    axes.barh(range(len(values)), values, color="lightgreen")
    for row, (name, v) in enumerate(curves):
        axes.text(0, row, f"  {name}: {_shown(panel, v[-1][1])}", fontsize=6, va="center")
    axes.invert_yaxis()
    axes.set_yticks([])


def _lines(axes: Axes, panel: Panel, curves: Curves) -> None:
    newest = max(v[-1][0] for _, v in curves)
    base: dict[float, float] = {}
    for name, points in curves:
        minutes = [(t - newest) / 60 for t, _ in points]
        values = [_scaled(panel, v) for _, v in points]
        if panel.stacked:
            low = [base.get(m, 0.0) for m in minutes]
            values = [a + b for a, b in zip(low, values, strict=True)]
            base |= dict(zip(minutes, values, strict=True))
            axes.fill_between(minutes, low, values, step="post", alpha=0.6, label=name)
        else:
            axes.plot(minutes, values, linewidth=1, drawstyle="steps-post", label=name)
    axes.set_xlabel("minutes", fontsize=6)
    axes.set_ylabel(_FACTORS.get(panel.unit, (1, ""))[1].strip(), fontsize=6)
    axes.legend(fontsize=5, ncols=3, frameon=False)


def _text(axes: Axes, text: str, colour: str) -> None:
    axes.axis("off")
    axes.text(0, 0.95, text, fontsize=7, color=colour, va="top", wrap=True)


def _name(answer: Answer, labels: dict[str, str]) -> str:
    if not answer.query.legend:
        return ", ".join(f"{k} {v}" for k, v in labels.items() if k != "__name__")
    return re.sub(r"{{(\w+)}}", lambda label: labels.get(label[1], "-"), answer.query.legend)


def _scaled(panel: Panel, value: str) -> float:
    return float(value) * _FACTORS.get(panel.unit, (1.0, ""))[0]


def _shown(panel: Panel, value: str) -> str:
    if panel.unit == "dateTimeFromNow":
        return datetime.fromtimestamp(float(value) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{_scaled(panel, value):.4g}{_FACTORS.get(panel.unit, (1, ''))[1]}"


def main(url: str, folder: Path, hours: float = 1.0) -> None:
    """Write FOLDER/dashboard-NAME.png for each dashboard."""
    prometheus = Prometheus(url)
    folder.mkdir(parents=True, exist_ok=True)
    for dashboard in DASHBOARDS:
        answers = {
            panel.title: [prometheus.ask(panel.title, query, hours) for query in panel.queries]
            for panel in dashboard.panels
        }
        draw(dashboard, answers, folder / f"dashboard-{dashboard.name}.png")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]), *map(float, sys.argv[3:4]))

"""Dashboards in Grafana's classic JSON (schemaVersion 42), from titles and queries.

Source: the types `Dashboard` and `Panel` of npm's @grafana/schema 13; a test checks the result by
them. Grafana 13 provisions its version 2 of the format from no file, hence the classic one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "bargauge", "table"]

SCHEMA_VERSION = 42
COLUMNS = 24
RUNBOOKS = "https://git.example.org/liverseg/docs/runbooks.md"
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[Kind, Json] = {
    "timeseries": {
        "legend": {
            "calcs": ["lastNotNull"],
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": _LAST,
        "textMode": "value_and_name",
    },
    "bargauge": {
        "displayMode": "basic",
        "orientation": "horizontal",
        "reduceOptions": _LAST,
        "showUnfilled": True,
        "valueMode": "color",
    },
    "table": {"cellHeight": "sm", "frameIndex": 0, "showHeader": True},
}


@dataclass(frozen=True)
class Query:
    """A question in PromQL.

    `$study` is a regular expression of studies and `$__rate_interval` Grafana's.
    """

    expr: str
    legend: str = ""
    absent: str = ""
    """Why the answer may be empty in a race that is in order."""


@dataclass(frozen=True)
class Panel:
    """Some queries drawn together; `width` in columns of 24, `unit` as Grafana names it."""

    title: str
    description: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 8
    stacked: bool = False
    steps: tuple[tuple[float, str], ...] = ()
    """Thresholds: the colour from a value on."""

    def json(self, number: int, x: int, y: int) -> Json:
        """Return the panel at a position in the grid."""
        instant = self.kind != "timeseries"
        defaults: Json = {"unit": self.unit}
        if self.steps:
            steps: list[Json] = [{"color": "green", "value": None}]
            steps += [{"color": colour, "value": value} for value, colour in self.steps]
            defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        if self.kind == "timeseries":
            defaults["custom"] = {
                "drawStyle": "line",
                "fillOpacity": 40 if self.stacked else 0,
                "lineInterpolation": "stepAfter",
                "stacking": {"mode": "normal" if self.stacked else "none"},
            }
        panel: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": " ".join([self.description, *self._notes()]),
            "datasource": _DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": _OPTIONS[self.kind],
            "targets": [
                {
                    "refId": chr(ord("A") + index),
                    "datasource": _DATASOURCE,
                    "expr": query.expr,
                    "legendFormat": query.legend or "__auto",
                    "format": "table" if self.kind == "table" else "time_series",
                    "instant": instant,
                    "range": not instant,
                }
                for index, query in enumerate(self.queries)
            ],
        }
        if self.kind == "table":
            hidden: Json = {"excludeByName": {"Time": True, "__name__": True}}
            panel["transformations"] = [{"id": "organize", "options": hidden}]
        return panel

    def _notes(self) -> Iterator[str]:
        for query in self.queries:
            if query.absent:
                yield f"May be empty: {query.absent}."


@dataclass(frozen=True)
class Dashboard:
    """Panels from left to right, then down."""

    name: str
    """Of its file."""
    title: str
    description: str
    panels: tuple[Panel, ...]

    def json(self) -> Json:
        """Return the dashboard as Grafana reads it from a file."""
        placed, x, y, lowest = [], 0, 0, 0
        for number, panel in enumerate(self.panels, start=1):
            if x + panel.width > COLUMNS:
                x, y = 0, lowest
            placed.append(panel.json(number, x, y))
            x += panel.width
            lowest = max(lowest, y + panel.height)
        return {
            "uid": f"liverseg-{self.name}",
            "title": f"liverseg: {self.title}",
            "description": self.description,
            "tags": ["liverseg"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser",
            "links": _links(),
            "templating": {"list": _variables()},
            "panels": placed,
        }


def _links() -> list[Json]:
    common = {"asDropdown": False, "targetBlank": True, "tooltip": ""}
    return [
        {
            **common,
            "title": "Dashboards",
            "type": "dashboards",
            "tags": ["liverseg"],
            "icon": "dashboard",
            "includeVars": True,
            "keepTime": True,
            "targetBlank": False,
        },
        {
            **common,
            "title": "Runbooks",
            "type": "link",
            "url": RUNBOOKS,
            "tags": [],
            "icon": "doc",
            "includeVars": False,
            "keepTime": False,
        },
        {
            **common,
            "title": "Report of the study",
            "type": "link",
            "url": "${store}/studies/${study}/report.html",
            "tags": [],
            "icon": "external link",
            "includeVars": False,
            "keepTime": False,
        },
    ]


def _variables() -> list[Json]:
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            "name": "study",
            "label": "Study",
            "type": "query",
            "datasource": _DATASOURCE,
            "query": {"query": "label_values(liverseg_study_info, study)", "refId": "study"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
        },
        {
            "name": "store",
            "label": "Address of the store, for the report",
            "type": "textbox",
            "query": "https://s3.example.org/liverseg/store",
        },
    ]

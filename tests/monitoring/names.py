"""Names of metrics: those a query uses, and those the documentation promises."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from monitoring.dashboards import DASHBOARDS
from monitoring.dashboards.panels import Query

ROOT = Path(__file__).parents[2]
TOOLS = Path(os.environ.get("TOOLS") or Path.home() / ".cache" / "liverseg" / "tools")
RULE_FILES = sorted((ROOT / "monitoring" / "rules").glob("*.yml"))
# Of other exporters, and of Prometheus itself.
OTHERS = {"ALERTS", "up", "DCGM_FI_DEV_GPU_UTIL"} | {
    f"kube_pod_{name}" for name in ("start_time", "completion_time", "container_resource_limits")
}
_NAME = re.compile(r"\b(?:\w+:)?(?:liverseg|kube|DCGM_FI)_\w+(?::\w+)?|\b(?:ALERTS|up)\b(?=\{)")
_HISTOGRAM = re.compile(r"(_seconds)_(?:bucket|sum|count)$")


def rules() -> Iterator[dict[str, Any]]:
    """Yield every rule."""
    for path in RULE_FILES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def queries() -> Iterator[tuple[str, Query]]:
    """Yield every query of every dashboard with where it is."""
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            for query in panel.queries:
                yield f"{dashboard.name}: {panel.title}", query


def used(expr: str) -> set[str]:
    """Return the metrics that a query names, histograms under their own name."""
    # What is quoted or selected by is no metric.
    plain = re.sub(r'"[^"]*"', '""', expr)
    return {_HISTOGRAM.sub(r"\1", name) for name in _NAME.findall(plain)}


def documented() -> set[str]:
    """Return the metrics of the tables in docs/monitoring.md."""
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(liverseg_\w+)", text, re.MULTILINE))


def recorded() -> set[str]:
    """Return the series that recording rules make."""
    return {rule["record"] for rule in rules() if "record" in rule}

"""The dashboards are what Grafana's own types describe."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring.dashboards import DASHBOARDS
from tests.monitoring.names import ROOT, TOOLS

SCHEMA = TOOLS / "grafana-schema"
SHAPE = ROOT / "monitoring" / "dashboards" / "types" / "shape.ts"


def tsc(folder: Path, *dashboards: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Compile the dashboards as literals of Grafana's types."""
    if not (SCHEMA / "node_modules").exists():
        pytest.skip(f"there is no {SCHEMA}; `make grafana-schema` installs it (npm needed)")
    (folder / "node_modules").symlink_to(SCHEMA / "node_modules")
    (folder / "shape.ts").write_text(SHAPE.read_text(encoding="utf-8"), encoding="utf-8")
    literals = [f"export const d{i}: Shape = {json.dumps(d)};" for i, d in enumerate(dashboards)]
    text = "\n".join(["import type { Shape } from './shape';", *literals])
    (folder / "dashboards.ts").write_text(text, encoding="utf-8")
    options = ["--noEmit", "--strict", "--skipLibCheck"]
    options += ["--module", "esnext", "--moduleResolution", "bundler"]
    command = ["node", "node_modules/typescript/bin/tsc", *options, "dashboards.ts"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_dashboards_have_grafanas_types(tmp_path):
    done = tsc(tmp_path, *(dashboard.json() for dashboard in DASHBOARDS))
    assert done.returncode == 0, done.stdout


def planted() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield dashboards that are wrong, each in one place."""
    for where, value in (
        ("schemaVersion", "42"),
        ("tagz", []),
        ("panels.0.gridPos.h", "8"),
        ("panels.0.type", "statistic"),
        ("panels.0.options.colorMode", "values"),
        ("panels.0.options.reduceOptions.calcs", "last"),
        ("panels.4.fieldConfig.defaults.custom.drawStyle", "lines"),
        ("panels.4.fieldConfig.defaults.custom.fillOpacityy", 1),
        ("panels.4.options.legend.placement", "below"),
        ("panels.3.options.displayMode", "simple"),
        ("links.0.type", "dashboard"),
        ("templating.list.1.type", "queries"),
        ("templating.list.1.refresh", 7),
    ):
        dashboard = json.loads(json.dumps(DASHBOARDS[0].json()))
        *parents, last = where.split(".")
        node: Any = dashboard
        for parent in parents:
            node = node[int(parent)] if parent.isdigit() else node[parent]
        node[last] = value
        yield where, dashboard


@pytest.mark.slow
def test_a_planted_error_is_found_wherever_it_is(tmp_path):
    wrong = list(planted())
    done = tsc(tmp_path, *(dashboard for _, dashboard in wrong))
    assert done.returncode != 0
    # The literals begin in line 2, one a line.
    refused = {
        int(line.split("(")[1].split(",")[0]) - 2
        for line in done.stdout.splitlines()
        if "error" in line
    }
    assert [where for i, (where, _) in enumerate(wrong) if i not in refused] == []


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_no_two_panels_overlap_and_each_has_a_title_a_text_and_a_query(dashboard):
    cells: set[tuple[int, int]] = set()
    for panel in dashboard.json()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not own & cells
        cells |= own
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["targets"]


def test_every_dashboard_has_the_variables_and_links():
    for dashboard in (d.json() for d in DASHBOARDS):
        assert [v["name"] for v in dashboard["templating"]["list"]] == [
            "datasource",
            "study",
            "store",
        ]
        assert [link["title"] for link in dashboard["links"]] == [
            "Dashboards", "Runbooks", "Report of the study",
        ]  # fmt: skip
        assert dashboard["schemaVersion"] in (41, 42)
        assert all(
            t["datasource"]["uid"] == "${datasource}"
            for p in dashboard["panels"]
            for t in p["targets"]
        )

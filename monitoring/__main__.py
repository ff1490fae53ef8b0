"""Write what is generated: Grafana's JSON, and the PrometheusRule around the rules.

python -m monitoring
"""

import json
from pathlib import Path

from monitoring.dashboards import DASHBOARDS

ROOT = Path(__file__).parents[1]
RULES = (
    ROOT / "monitoring" / "rules" / "recording.yml",
    ROOT / "monitoring" / "rules" / "alerts.yml",
)
COMPONENTS = Path("manifests") / "components"
_PROMETHEUS_RULE = """\
# Made of monitoring/rules by `make monitoring`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: liverseg
  labels:
    app.kubernetes.io/part-of: liverseg
spec:
  groups:
"""


def generated() -> dict[Path, str]:
    """Return the text of every generated file by its path from the root."""
    files = {COMPONENTS / "monitoring-operator" / "rules.yaml": prometheus_rule()}
    for dashboard in DASHBOARDS:
        path = COMPONENTS / "monitoring" / "dashboards" / f"{dashboard.name}.json"
        files[path] = json.dumps(dashboard.json(), indent=2) + "\n"
    return files


def prometheus_rule() -> str:
    """Return the rules as one PrometheusRule, comments included."""
    text = _PROMETHEUS_RULE
    for path in RULES:
        _, _, groups = path.read_text(encoding="utf-8").partition("groups:\n")
        text += "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(True))
    return text


if __name__ == "__main__":
    for path, text in generated().items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")

"""Ask a running Prometheus every query of every dashboard and rule, and show what came back.

    python -m monitoring.ask http://127.0.0.1:9090 [HOURS]

A query over the last hours (1) that fails, or that has no answer and gives no reason for it, is
marked and makes the exit code 1.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from monitoring.__main__ import RULES
from monitoring.dashboards import DASHBOARDS
from monitoring.dashboards.panels import Query

VARIABLES = {"$study": ".*", "$__rate_interval": "1m"}
# Points of a curve.
STEPS = 120


@dataclass(frozen=True)
class Answer:
    """What Prometheus says to a query: curves by their labels, or an error."""

    where: str
    query: Query
    series: list[dict[str, Any]]
    error: str = ""

    @property
    def wrong(self) -> bool:
        """Whether it failed, or is empty without a reason."""
        return bool(self.error) or not (self.series or self.query.absent)


class Prometheus:
    """The API of a server at a URL."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise SystemExit(f"{url} is no address of a server; it begins with http:// or https://")
        self._url = url.rstrip("/")

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """Return the JSON of an answer, which may tell an error."""
        try:
            with urlopen(f"{self._url}/api/v1/{path}?{urlencode(parameters)}") as got:  # noqa: S310
                answer: dict[str, Any] = json.load(got)
        except HTTPError as error:
            answer = json.load(error)
        return answer

    def ask(self, where: str, query: Query, hours: float) -> Answer:
        """Return the curves of a query over the last hours."""
        expr, now = query.expr, time.time()
        for name, value in VARIABLES.items():
            expr = expr.replace(name, value)
        span = {"start": now - hours * 3600, "end": now, "step": hours * 3600 / STEPS}
        answer = self.get("query_range", query=expr, **span)
        if answer["status"] != "success":
            return Answer(where, query, [], answer["error"])
        return Answer(where, query, answer["data"]["result"])


def questions() -> Iterator[tuple[str, Query]]:
    """Yield every query with where it is; an alert is asked too, and rightly has no answer."""
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            for query in panel.queries:
                yield f"{dashboard.name}: {panel.title}", query
    for path in RULES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    yield rule["alert"], Query(rule["expr"], absent="nothing is wrong")
                else:
                    yield rule["record"], Query(rule["expr"], absent=_absent(rule["record"]))


def _absent(record: str) -> str:
    """Return why a recorded series may be absent: what the panels that show it say."""
    reasons = {
        query.absent
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query in panel.queries
        if record in query.expr
    }
    return "; ".join(sorted(reasons - {""}))


def failing_rules(prometheus: Prometheus) -> list[str]:
    """Return the rules that Prometheus itself could not evaluate."""
    groups = prometheus.get("rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return [f"{r['name']}: {r.get('lastError')}" for r in rules if r["health"] == "err"]


def main(url: str, hours: float = 1.0) -> int:
    """Print a line per query and return the exit code."""
    prometheus = Prometheus(url)
    answers = [prometheus.ask(where, query, hours) for where, query in questions()]
    for answer in answers:
        if answer.error:
            said = f"FAILS: {answer.error}"
        elif answer.series:
            said = f"{len(answer.series)} series"
        else:
            said = f"absent in this race: {answer.query.absent}" if not answer.wrong else "EMPTY"
        print(f"{answer.where:60} {said}")
    failing = failing_rules(prometheus)
    print(*failing, sep="\n", end="\n" if failing else "")
    wrong = sum(answer.wrong for answer in answers)
    print(f"{len(answers)} queries, {wrong} wrong, {len(failing)} rules that fail")
    return int(bool(wrong or failing))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    sys.exit(main(sys.argv[1], *map(float, sys.argv[2:3])))

"""The rules: valid for both versions of Prometheus, tested one by one, and each with a runbook."""

import re
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from liverseg.cli import main
from monitoring.__main__ import generated, prometheus_rule
from tests.monitoring.names import (
    OTHERS,
    ROOT,
    RULE_FILES,
    TOOLS,
    documented,
    queries,
    recorded,
    rules,
    used,
)

PROMTOOL = {
    "2.42": TOOLS / "prometheus-debian" / "usr" / "bin" / "promtool",
    "3.16": TOOLS / "promtool",
}
CONFIGS = ("prometheus.yml", "prometheus-kubernetes.yml")
TESTS = sorted(Path(__file__).parent.glob("*_test.yml"))
ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


@pytest.fixture(params=PROMTOOL)
def promtool(request: pytest.FixtureRequest) -> Path:
    program = PROMTOOL[request.param]
    if not program.exists():
        pytest.skip(f"there is no {program}; `make metrics-servers` installs it")
    return program


def run(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_rules_are_valid(promtool):
    done = run(promtool, "check", "rules", *RULE_FILES)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", CONFIGS)
def test_the_plain_configurations_are_valid(promtool, name):
    if "kubernetes" in name and promtool == PROMTOOL["2.42"]:
        pytest.skip("Debian builds Prometheus without kubernetes_sd_configs")
    done = run(promtool, "check", "config", ROOT / "monitoring" / name)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(promtool, path):
    done = run(promtool, "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (">= 1\n", ">= 1.2\n"),
        ("== 1) > 30 * 86400", "== 1) > 20 * 86400"),
        ('state=~"running|not_running"', 'state=~"running|ended"'),
        ("> 0.02\n", "> 0.01\n"),
        ("offset 1h)) >= 3", "offset 1h)) >= 1"),
    ],
)
def test_a_wrong_alert_fails_its_test(tmp_path, right, wrong):
    promtool = next((program for program in PROMTOOL.values() if program.exists()), None)
    if promtool is None:
        pytest.skip("there is no promtool; `make metrics-servers` installs it")
    for folder in ("monitoring/rules", "tests/monitoring"):
        (tmp_path / folder).mkdir(parents=True)
    for path in (*RULE_FILES, *TESTS):
        text = path.read_text(encoding="utf-8")
        if path.name == "alerts.yml":
            assert text.count(right) == 1
            text = text.replace(right, wrong)
        (tmp_path / path.relative_to(ROOT)).write_text(text, encoding="utf-8")
    done = run(promtool, "test", "rules", tmp_path / "tests" / "monitoring" / "alerts_test.yml")
    assert done.returncode == 1
    assert "FAILED" in done.stdout + done.stderr


def expectations() -> list[tuple[str, bool]]:
    """Every query of the rules' tests, and whether it expects an answer."""
    return [
        (expected["expr"], bool(expected["exp_samples"]))
        for path in TESTS
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for expected in test["promql_expr_test"]
    ]


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not(name):
    # "LiversegBudget.*" stands for two of them.
    patterns = [
        (re.search(r'alertname=~?"([^"]+)"', expr), fires) for expr, fires in expectations()
    ]
    assert {fires for m, fires in patterns if m and re.fullmatch(m[1], name)} == {True, False}


def test_every_recording_rule_has_a_test_of_its_value():
    tested = {name for expr, answers in expectations() if answers for name in used(expr)}
    assert recorded() - tested == set()


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_how_bad_it_is_what_it_means_and_what_to_do(name):
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    address, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert address.endswith("/docs/runbooks.md")
    assert anchor == name.lower()


def test_every_alert_and_nothing_else_has_a_runbook_with_commands():
    text = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert sorted(sections) == sorted(ALERTS)
    assert [name for name, section in sections.items() if "```sh\n" not in section] == []


def test_rules_and_dashboards_use_documented_metrics_only():
    exprs = [rule["expr"] for rule in rules()] + [query.expr for _, query in queries()]
    known = documented() | recorded() | OTHERS
    assert {name for expr in exprs for name in used(expr)} - known == set()


def test_every_documented_metric_is_used_or_said_to_be_for_reading_only():
    exprs = [rule["expr"] for rule in rules()] + [query.expr for _, query in queries()]
    assert documented() - {name for expr in exprs for name in used(expr)} == set()


def test_gpu_seconds_which_move_between_outcomes_are_never_taken_for_a_counter():
    exprs = [rule["expr"] for rule in rules()] + [query.expr for _, query in queries()]
    moving = r"\b(?:i?rate|increase|resets)\(\s*[\w:]*liverseg_(?:gpu_|iterations|attempt_gpu)"
    assert [expr for expr in exprs if re.search(moving, expr)] == []


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ('rate(liverseg_x_seconds_bucket{a="liverseg_y"}[5m])', {"liverseg_x_seconds"}),
        ("a:liverseg_b:sum / liverseg_c_total", {"a:liverseg_b:sum", "liverseg_c_total"}),
        ('up{job="liverseg-exporter"}', {"up"}),
    ],
)
def test_the_metrics_of_a_query_are_found(expr, names):
    assert used(expr) == names


def test_what_is_generated_is_up_to_date():
    stale = [
        str(path)
        for path, text in generated().items()
        if not (ROOT / path).exists() or (ROOT / path).read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run `make monitoring`"


def test_the_prometheus_rule_has_the_groups_of_the_files():
    groups = [
        g
        for path in (RULE_FILES[1], RULE_FILES[0])
        for g in yaml.safe_load(path.read_text())["groups"]
    ]
    assert yaml.safe_load(prometheus_rule())["spec"]["groups"] == groups


def test_every_alert_is_in_the_table_with_its_severity():
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(Liverseg\w+)` \|.*\| (\w+) \|$", text, re.MULTILINE)
    assert table == [(name, rule["labels"]["severity"]) for name, rule in ALERTS.items()]


@pytest.mark.parametrize("document", ["monitoring.md", "runbooks.md"])
def test_every_command_of_ours_in_the_documents_exists(document):
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    commands = re.findall(r"\bliverseg ((?:study|pipeline|dataset|metrics)\b(?: [a-z-]+)?)", text)
    assert commands
    for words in set(commands):
        command = main
        for word in words.split():
            if isinstance(command, click.Group):
                command = command.commands[word]

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from liverseg.steps import tasks

ROOT = Path(__file__).parents[2]
COMPONENTS = sorted(p for p in (ROOT / "components").glob("*.py") if p.stem != "__init__")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("build")
    command = [sys.executable, "-m", "liverseg.cli", "pipeline", "compile", "--out", str(out)]
    subprocess.run(command, check=True)
    spec: dict[str, Any] = yaml.safe_load((out / "training.yaml").read_text(encoding="utf-8"))
    return spec


def dag(spec: dict[str, Any], component: str) -> dict[str, Any]:
    tasks_of: dict[str, Any] = spec["components"][component]["dag"]["tasks"]
    return tasks_of


def test_the_steps_follow_each_other_and_every_rung_is_a_task(compiled: dict[str, Any]) -> None:
    steps = dag(compiled, "comp-exit-handler-1")
    order, last = ["scan"], "scan"
    while following := [
        name
        for name, task in steps.items()
        if last in task.get("dependentTasks", []) and set(task["dependentTasks"]) <= {last, "scan"}
        if name not in order
    ]:
        last = following[0]
        order.append(last)
    assert [steps[name]["taskInfo"]["name"] for name in order] == [
        "scan", "for-loop-2", "rung 0", "rung 1", "rung 2", "rung 3", "rung 4", "single",
        "predict", "postprocess", "evaluate", "report",
    ]  # fmt: skip
    assert list(dag(compiled, "comp-for-loop-2")) == ["preprocess"]


def test_only_the_last_rungs_task_runs_the_race_to_its_end(compiled: dict[str, Any]) -> None:
    steps = dag(compiled, "comp-exit-handler-1")
    until = {
        task["taskInfo"]["name"]: task["inputs"]["parameters"]["until"]["runtimeValue"]["constant"]
        for task in steps.values()
        if task["taskInfo"]["name"].startswith("rung")
    }
    assert until == {"rung 0": "0", "rung 1": "1", "rung 2": "2", "rung 3": "3", "rung 4": "end"}


def test_a_task_says_where_the_study_stands_however_the_run_ended(
    compiled: dict[str, Any],
) -> None:
    finish = compiled["root"]["dag"]["tasks"]["finish"]
    assert finish["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


def test_every_parameter_is_described_and_all_but_two_have_a_default(
    compiled: dict[str, Any],
) -> None:
    parameters = compiled["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {
        "data", "store", "preset", "split", "settings", "gpus", "max_gpu_hours", "shards",
        "compare_single",
    }  # fmt: skip
    assert [name for name, p in parameters.items() if not p.get("description")] == []
    assert {name for name, p in parameters.items() if "defaultValue" not in p} == {"data", "store"}


def test_no_task_is_taken_from_kfps_cache(compiled: dict[str, Any]) -> None:
    # The steps know by content what is there already; kfp's cache knows parameters only.
    for component in ("comp-exit-handler-1", "comp-for-loop-2"):
        for name, task in dag(compiled, component).items():
            if not name.startswith("for-loop"):
                assert not task["cachingOptions"].get("enableCache", False), name


def test_a_rung_shows_metrics_and_a_page(compiled: dict[str, Any]) -> None:
    artifacts = compiled["components"]["comp-rung"]["outputDefinitions"]["artifacts"]
    kinds = {name: a["artifactType"]["schemaTitle"] for name, a in artifacts.items()}
    assert kinds == {"metrics": "system.Metrics", "page": "system.HTML"}


def test_tasks_run_in_our_image_and_install_nothing(compiled: dict[str, Any]) -> None:
    executors = compiled["deploymentSpec"]["executors"]
    assert {e["container"]["image"] for e in executors.values()} == {"liverseg:0.1.0"}
    assert [n for n, e in executors.items() if "pip" in str(e["container"]["command"])] == []


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: str(path.stem))
def test_a_components_body_is_one_import_and_one_call_that_fits_its_task(path: Path) -> None:
    (function,) = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    ]
    assert function.name == path.stem
    imported, statement = function.body
    assert isinstance(imported, ast.ImportFrom)
    assert imported.module == "liverseg.steps"
    assert isinstance(statement, ast.Expr | ast.Return)
    (call,) = [
        node
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("tasks.")
    ]
    signature = inspect.signature(getattr(tasks, path.stem))
    signature.bind(*call.args)
    names = {arg.arg for arg in function.args.args} - {"metrics", "page"}
    assert names <= {name.id for name in ast.walk(call) if isinstance(name, ast.Name)}

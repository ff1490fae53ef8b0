import ast
import inspect
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import compiler, components

from liverseg.race.executors.pod_settings import PodSettings
from liverseg.steps import tasks
from pipelines.cluster import REQUIRED, Cluster
from pipelines.training import define

ROOT = Path(__file__).parents[2]
COMPONENTS = sorted(p for p in (ROOT / "components").glob("*.py") if p.stem != "__init__")


IMAGES = {
    "controller": "registry.example.org/controller@sha256:" + "1" * 64,
    "trainer": "registry.example.org/trainer@sha256:" + "2" * 64,
}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build")
    words = [w for name, image in IMAGES.items() for w in (f"--{name}-image", image)]
    words += ["--toleration", "gpu-node=yes:NoSchedule", "--node-selector", "pool=liver"]
    words += ["--predict-gpus", "1", "--namespace", "team", "--out", str(out)]
    command = [sys.executable, "-m", "liverseg.cli", "pipeline", "compile", *words]
    subprocess.run(command, check=True)
    return out


@pytest.fixture(scope="module")
def documents(build: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline, and what Kubernetes has to know of its pods."""
    spec, platform = yaml.safe_load_all((build / "training.yaml").read_text(encoding="utf-8"))
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.fixture(scope="module")
def compiled(documents: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return documents[0]


@pytest.fixture(scope="module")
def pods(documents: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return documents[1]


def dag(spec: dict[str, Any], component: str) -> dict[str, Any]:
    tasks_of: dict[str, Any] = spec["components"][component]["dag"]["tasks"]
    return tasks_of


def test_the_steps_follow_each_other_and_every_rung_is_a_task(compiled: dict[str, Any]) -> None:
    steps = dag(compiled, "comp-exit-handler-1")
    order, last = ["scan"], "scan"
    while following := [
        name
        for name, task in steps.items()
        if last in task.get("dependentTasks", []) and set(task["dependentTasks"]) <= set(order)
        if name not in order
    ]:
        last = following[0]
        order.append(last)
    assert [steps[name]["taskInfo"]["name"] for name in order] == [
        "scan", "for-loop-2", "rung 0", "rung 1", "rung 2", "rung 3", "rung 4", "baseline",
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
    assert [name for name, p in parameters.items() if not p.get("description")] == []
    assert {name for name, p in parameters.items() if "defaultValue" not in p} == {"data", "store"}
    expected = {
        "data": "STRING", "store": "STRING", "preset": "STRING", "split": "STRING",
        "settings": "STRING", "gpus": "NUMBER_INTEGER", "max_gpu_hours": "NUMBER_DOUBLE",
        "shards": "NUMBER_INTEGER", "compare_baseline": "BOOLEAN", "pods": "STRING",
    }  # fmt: skip
    assert {name: p["parameterType"] for name, p in parameters.items()} == expected


def all_tasks(spec: dict[str, Any]) -> dict[str, Any]:
    """Every task that is a pod, by its key."""
    dags = [spec["root"], *(c for c in spec["components"].values() if "dag" in c)]
    found = {name: task for part in dags for name, task in part["dag"]["tasks"].items()}
    return {n: t for n, t in found.items() if not n.startswith(("for-loop", "exit-handler"))}


def test_only_tasks_whose_parameters_tell_what_is_in_the_store_are_skipped(
    compiled: dict[str, Any],
) -> None:
    steps = all_tasks(compiled)
    cached = {n for n, t in steps.items() if t["cachingOptions"].get("enableCache")}
    assert cached == {"preprocess", "predict", "postprocess", "evaluate", "report"}
    for name in cached - {"preprocess"}:
        word = steps[name]["inputs"]["parameters"]["reuse"]["taskOutputParameter"]
        assert word["producerTask"] == "baseline"
    # Its shard's name holds the word.
    assert set(steps["preprocess"]["inputs"]["parameters"]) == {"data", "store", "shard"}


def test_a_task_whose_pod_was_lost_is_repeated(compiled: dict[str, Any]) -> None:
    steps = all_tasks(compiled)
    retried = {name for name, task in steps.items() if "retryPolicy" in task}
    assert set(steps) - retried == {"finish"}
    assert all(steps[name]["retryPolicy"]["maxRetryCount"] == 2 for name in retried)


def test_every_task_has_the_stores_credentials_and_may_run_where_it_was_said(
    compiled: dict[str, Any], pods: dict[str, Any]
) -> None:
    assert set(pods) == set(compiled["deploymentSpec"]["executors"])
    for name, pod in pods.items():
        secrets = {
            e["envVar"]: (e["secretKey"], s["secretName"], s["optional"])
            for s in pod["secretAsEnv"]
            for e in s["keyToEnv"]
        }
        assert secrets == {
            variable: (variable, "liverseg-store", variable not in REQUIRED)
            for variable in (
                *REQUIRED, "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_SESSION_TOKEN",
            )
        }  # fmt: skip
        assert pod["nodeSelector"]["labels"] == {"pool": "liver"}
        assert pod["imagePullPolicy"] == "IfNotPresent"
        taint = {"key": "gpu-node", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}
        gpu = {"key": "nvidia.com/gpu", "operator": "Exists"}
        assert pod["tolerations"] == [taint, gpu] if name == "exec-predict" else [taint]


def test_only_predict_needs_torch_and_a_gpu(compiled: dict[str, Any]) -> None:
    executors = compiled["deploymentSpec"]["executors"]
    for name, executor in executors.items():
        kind = "trainer" if name == "exec-predict" else "controller"
        assert executor["container"]["image"] == IMAGES[kind]
        assert ("resources" in executor["container"]) == (name == "exec-predict")
    accelerator = executors["exec-predict"]["container"]["resources"]["accelerator"]
    assert accelerator["resourceType"] == "nvidia.com/gpu"
    assert accelerator["resourceCount"] == "1"


def test_the_compiled_pipeline_can_be_loaded_and_is_the_same_again(
    build: Path, tmp_path: Path
) -> None:
    loaded = components.load_component_from_file(str(build / "training.yaml"))
    compiler.Compiler().compile(loaded, str(tmp_path / "again.yaml"))
    again = (tmp_path / "again.yaml").read_text(encoding="utf-8")
    assert again == (build / "training.yaml").read_text(encoding="utf-8")
    inputs = loaded.component_spec.inputs
    assert {n for n, i in inputs.items() if not i.optional} == {"data", "store"}
    assert inputs["gpus"].type == "Integer"
    assert inputs["preset"].default == "paper"


def test_a_server_that_keeps_pipelines_in_kubernetes_gets_the_same(
    build: Path, documents: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    text = (build / "training-kubernetes.yaml").read_text(encoding="utf-8")
    pipeline, version = yaml.safe_load_all(text)
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    digest = sha256((build / "training.yaml").read_bytes()).hexdigest()
    assert version["metadata"]["name"] == f"liverseg-training-{digest[:12]}"
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"] == "liverseg-training"
    assert {o["metadata"]["namespace"] for o in (pipeline, version)} == {"team"}
    assert version["spec"]["pipelineSpec"] == documents[0]
    platform = version["spec"]["platformSpec"]["platforms"]["kubernetes"]
    assert platform["deploymentSpec"]["executors"] == documents[1]


def test_on_this_machine_nothing_is_repeated_and_no_secret_is_needed() -> None:
    here = json_format.MessageToDict(define(None).pipeline_spec)
    assert [n for n, task in all_tasks(here).items() if "retryPolicy" in task] == []
    assert not define(None).platform_spec.platforms
    assert set(all_tasks(here)) == set(
        all_tasks(json_format.MessageToDict(define(Cluster()).pipeline_spec))
    )


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--toleration", ":NoSchedule"),
        ("--toleration", "gpu:Never"),
        ("--node-selector", "pool"),
        ("--node-selector", "=liver"),
    ],
)
def test_a_wrong_option_is_told_with_its_form(option: str, text: str, tmp_path: Path) -> None:
    words = ["pipeline", "compile", option, text, "--out", str(tmp_path / "build")]
    line = [sys.executable, "-m", "liverseg.cli", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"'{text}': write" in done.stderr
    assert not (tmp_path / "build").exists()


def test_a_rung_shows_metrics_and_a_page(compiled: dict[str, Any]) -> None:
    artifacts = compiled["components"]["comp-rung"]["outputDefinitions"]["artifacts"]
    kinds = {name: a["artifactType"]["schemaTitle"] for name, a in artifacts.items()}
    assert kinds == {"metrics": "system.Metrics", "page": "system.HTML"}


def test_tasks_install_nothing(compiled: dict[str, Any]) -> None:
    executors = compiled["deploymentSpec"]["executors"]
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


def test_trainers_get_the_tasks_secret_nodes_and_tolerations(compiled: dict[str, Any]) -> None:
    given = compiled["root"]["inputDefinitions"]["parameters"]["pods"]["defaultValue"]
    settings = PodSettings.from_json(given)
    assert settings.store_secret == Cluster().secret
    assert settings.node_selector == {"pool": "liver"}
    assert settings.tolerations == (
        {"key": "gpu-node", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
        {"key": "nvidia.com/gpu", "operator": "Exists"},
    )


@pytest.mark.parametrize("task", ["rung", "baseline"])
def test_a_compiled_race_runs_as_pods_of_the_trainer_image(
    compiled: dict[str, Any], task: str
) -> None:
    given = all_tasks(compiled)[task]["inputs"]["parameters"]
    assert given["executor"]["runtimeValue"]["constant"] == "kubernetes"
    assert given["trainer_image"]["runtimeValue"]["constant"] == IMAGES["trainer"]

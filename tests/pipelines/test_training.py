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

from liverseg.errors import SettingsError
from liverseg.platform.pod_settings import PodSettings
from liverseg.steps import tasks
from liverseg.steps.race.pod_overlay import overlaid
from pipelines.cluster import REQUIRED, Cluster
from pipelines.pod_options import ConfigMapKey
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
    words += ["--image-pull-secret", "registry", "--task-cpu", "500m", "--predict-memory", "24Gi"]
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
    order, last = ["find-cases"], "find-cases"
    while following := [
        name
        for name, task in steps.items()
        if last in task.get("dependentTasks", []) and set(task["dependentTasks"]) <= set(order)
        if name not in order
    ]:
        last = following[0]
        order.append(last)
    assert [steps[name]["taskInfo"]["name"] for name in order] == [
        "find cases", "preprocess", "scan", "rung 0", "rung 1", "rung 2", "rung 3", "rung 4",
        "baseline", "predict", "postprocess", "evaluate", "report",
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


def test_the_graph_shows_the_study_and_a_summary_however_the_run_ended(
    compiled: dict[str, Any],
) -> None:
    tasks_of = compiled["root"]["dag"]["tasks"]
    # What the UI writes on a node, a box that holds others included.
    assert [task["taskInfo"]["name"] for task in tasks_of.values()] == ["study", "summary"]
    assert tasks_of["summary"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


def test_every_parameter_is_described_and_all_but_two_have_a_default(
    compiled: dict[str, Any],
) -> None:
    parameters = compiled["root"]["inputDefinitions"]["parameters"]
    assert [name for name, p in parameters.items() if not p.get("description")] == []
    assert {name for name, p in parameters.items() if "defaultValue" not in p} == {"data", "store"}
    expected = {
        "data": "STRING", "store": "STRING", "preset": "STRING", "split": "STRING",
        "settings": "STRING", "gpus": "NUMBER_INTEGER", "max_gpu_hours": "NUMBER_DOUBLE",
        "shards": "NUMBER_INTEGER", "compare_baseline": "BOOLEAN", "take_over": "BOOLEAN",
        "user": "STRING", "gpu_price": "NUMBER_DOUBLE", "currency": "STRING",
        "pods": "STRING",
    }  # fmt: skip
    assert {name: p["parameterType"] for name, p in parameters.items()} == expected
    assert parameters["take_over"]["defaultValue"] is False
    assert parameters["pods"]["defaultValue"] == "{}"


def test_the_form_suggests_no_store_that_only_one_machine_has(compiled: dict[str, Any]) -> None:
    parameters = compiled["root"]["inputDefinitions"]["parameters"]
    assert [name for name, p in parameters.items() if "file://" in p["description"]] == []
    assert "s3://" in parameters["store"]["description"]


def all_tasks(spec: dict[str, Any]) -> dict[str, Any]:
    """Every task that is a pod, by its key."""
    dags = [spec["root"], *(c for c in spec["components"].values() if "dag" in c)]
    tasks_of = {name: task for part in dags for name, task in part["dag"]["tasks"].items()}
    return {n: t for n, t in tasks_of.items() if not n.startswith(("for-loop", "exit-handler"))}


def test_only_tasks_whose_parameters_tell_what_is_in_the_store_are_skipped(
    compiled: dict[str, Any],
) -> None:
    steps = all_tasks(compiled)
    cached = {n for n, t in steps.items() if t["cachingOptions"].get("enableCache")}
    # Up to `scan` every run looks at the data itself: it may have changed.
    assert cached == {"predict", "postprocess", "evaluate", "report"}
    for name in cached:
        token = steps[name]["inputs"]["parameters"]["cache_token"]["taskOutputParameter"]
        assert token["producerTask"] == "baseline"


def test_no_task_has_a_retry_policy_of_its_own(compiled: dict[str, Any]) -> None:
    # It would repeat a controller that was fenced, and end every retry after an hour at most.
    assert [name for name, task in all_tasks(compiled).items() if "retryPolicy" in task] == []


def test_every_task_has_the_stores_credentials_and_may_run_where_it_was_said(
    compiled: dict[str, Any], pods: dict[str, Any]
) -> None:
    assert set(pods) == set(compiled["deploymentSpec"]["executors"])
    for name, pod in pods.items():
        assert pod["fieldPathAsEnv"] == [{"name": "POD_IP", "fieldPath": "status.podIP"}]
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
        assert [s["secretName"] for s in pod["imagePullSecret"]] == ["registry"]
        assert "configMapAsVolume" not in pod
        taint = {"key": "gpu-node", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}
        gpu = {"key": "nvidia.com/gpu", "operator": "Exists"}
        assert pod["tolerations"] == [taint, gpu] if name == "exec-predict" else [taint]


def test_only_predict_needs_torch_and_a_gpu(compiled: dict[str, Any]) -> None:
    executors = compiled["deploymentSpec"]["executors"]
    for name, executor in executors.items():
        kind = "trainer" if name == "exec-predict" else "controller"
        assert executor["container"]["image"] == IMAGES[kind]
        assert ("accelerator" in executor["container"]["resources"]) == (name == "exec-predict")
    accelerator = executors["exec-predict"]["container"]["resources"]["accelerator"]
    assert accelerator["resourceType"] == "nvidia.com/gpu"
    assert accelerator["resourceCount"] == "1"


def test_every_task_requests_cpu_and_memory_and_may_use_no_more_memory(
    compiled: dict[str, Any],
) -> None:
    for name, executor in compiled["deploymentSpec"]["executors"].items():
        resources = executor["container"]["resources"]
        kinds = ("resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit")
        cpu, memory = ("4", "24Gi") if name == "exec-predict" else ("500m", "4Gi")
        assert [resources[kind] for kind in kinds] == [cpu, memory, memory]
        assert "resourceCpuLimit" not in resources


@pytest.mark.slow
def test_a_private_authority_is_mounted_and_named_to_every_task() -> None:
    pipeline = define(Cluster(ca=ConfigMapKey("team-ca", "bundle.pem")))
    spec = json_format.MessageToDict(pipeline.pipeline_spec)
    for executor in spec["deploymentSpec"]["executors"].values():
        variables = {e["name"]: e["value"] for e in executor["container"]["env"]}
        assert variables == {"AWS_CA_BUNDLE": "/etc/liverseg/ca/bundle.pem"}
    platform = json_format.MessageToDict(pipeline.platform_spec)["platforms"]["kubernetes"]
    for pod in platform["deploymentSpec"]["executors"].values():
        (volume,) = pod["configMapAsVolume"]
        assert (volume["configMapName"], volume["mountPath"]) == ("team-ca", "/etc/liverseg/ca")
        assert not volume["optional"]


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


@pytest.mark.slow
def test_on_this_machine_no_secret_is_needed() -> None:
    here = json_format.MessageToDict(define(None).pipeline_spec)
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
        ("--ca-config-map", "team-ca:"),
        ("--ca-config-map", ":ca.crt"),
        ("--task-cpu", "two"),
        ("--task-memory", "1.5Gi"),
        ("--predict-cpu", "4 cores"),
        ("--predict-memory", "16GB"),
    ],
)
def test_a_wrong_option_is_shown_with_its_form(option: str, text: str, tmp_path: Path) -> None:
    words = ["pipeline", "compile", option, text, "--out", str(tmp_path / "build")]
    line = [sys.executable, "-m", "liverseg.cli", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"'{text}': write" in done.stderr
    assert not (tmp_path / "build").exists()


def test_artifacts_are_called_by_what_they_show(compiled: dict[str, Any]) -> None:
    artifacts = {
        name.removeprefix("comp-"): {
            key: artifact["artifactType"]["schemaTitle"]
            for key, artifact in component["outputDefinitions"]["artifacts"].items()
        }
        for name, component in compiled["components"].items()
        if "artifacts" in component.get("outputDefinitions", {}) and "executorLabel" in component
    }
    rungs = ("rung", "rung-2", "rung-3", "rung-4", "rung-5")
    assert artifacts == {
        **{name: {"metrics": "system.Metrics", "rung_report": "system.HTML"} for name in rungs},
        "evaluate": {"metrics": "system.Metrics"},
        "report": {"report": "system.HTML"},
    }


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
    names = {arg.arg for arg in function.args.args} - {"metrics", "rung_report"}
    assert names <= {name.id for name in ast.walk(call) if isinstance(name, ast.Name)}


def pods_of(compiled: dict[str, Any], task: str, run: str) -> PodSettings:
    """The settings of the trainers' pods when the run's form says `run`."""
    constant = all_tasks(compiled)[task]["inputs"]["parameters"]["cluster_pods"]
    return PodSettings.from_json(overlaid(constant["runtimeValue"]["constant"], run))


RACED = ["rung", "rung-5", "baseline"]


@pytest.mark.parametrize("task", RACED)
@pytest.mark.parametrize("run", ["{}", "", '{"memory": "32Gi"}'])
def test_trainers_keep_the_tasks_secret_nodes_and_tolerations_whatever_the_form_says(
    compiled: dict[str, Any], task: str, run: str
) -> None:
    settings = pods_of(compiled, task, run)
    assert settings.memory == ("32Gi" if run.startswith('{"m') else PodSettings().memory)
    names = (settings.store_secret, settings.image_pull_secret)
    assert names == ("liverseg-store", "registry")
    assert settings.node_selector == {"pool": "liver"}
    assert settings.tolerations == (
        {"key": "gpu-node", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
        {"key": "nvidia.com/gpu", "operator": "Exists"},
    )


def test_what_the_form_says_wins_and_objects_are_merged(compiled: dict[str, Any]) -> None:
    run = '{"node_selector": {"zone": "a"}, "tolerations": [], "cpu": "8"}'
    settings = pods_of(compiled, "rung", run)
    assert settings.node_selector == {"pool": "liver", "zone": "a"}
    assert settings.tolerations == ()
    assert settings.cpu == "8"
    assert pods_of(compiled, "rung", '{"node_selector": {"pool": "big"}}').node_selector == {
        "pool": "big"
    }


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("{", "pods must be a JSON object"),
        ("[]", "'pods' must be a table"),
        ('{"node_selector": 3}', "pods.node_selector"),
        ('{"memori": "32Gi"}', "pods.memori"),
    ],
)
def test_what_is_wrong_with_the_forms_pods_is_named(
    compiled: dict[str, Any], run: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        pods_of(compiled, "rung", run)


@pytest.mark.parametrize("task", RACED)
def test_a_compiled_race_runs_as_pods_of_the_trainer_image_with_what_the_form_says(
    compiled: dict[str, Any], task: str
) -> None:
    given = all_tasks(compiled)[task]["inputs"]["parameters"]
    assert given["executor"]["runtimeValue"]["constant"] == "kubernetes"
    assert given["trainer_image"]["runtimeValue"]["constant"] == IMAGES["trainer"]
    for name in ("take_over", "compare_baseline", "pods", "user", "gpu_price", "currency"):
        assert given[name] == {"componentInputParameter": f"pipelinechannel--{name}"}

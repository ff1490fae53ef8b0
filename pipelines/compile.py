"""The compiled pipeline as files: KFP's IR, and the objects of a Kubernetes-native server."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from pipelines.cluster import Cluster
from pipelines.training import NAME, define

IR_FILE, MANIFEST_FILE = "training.yaml", "training-kubernetes.yaml"


@dataclass(frozen=True)
class CompiledPipeline:
    """A compiled pipeline.

    Args:
        ir: YAML file to be uploaded.
        manifest: YAML file to be applied with kubectl: a Pipeline and a PipelineVersion.
        version: Name of the version, the same for the same IR.
        definitions: KFP's inputDefinitions by parameter name.
        cluster_pods: JSON of the trainers' pod settings, over which the parameter `pods` is laid.
        tasks: What the UI calls a task, by its key in the IR.
    """

    ir: Path
    manifest: Path
    version: str
    definitions: dict[str, dict[str, Any]]
    cluster_pods: str
    tasks: dict[str, str]


def compile_to(folder: Path, cluster: Cluster, namespace: str | None = None) -> CompiledPipeline:
    """Write both files into `folder`; `namespace` is where the Kubernetes objects shall lie."""
    folder.mkdir(parents=True, exist_ok=True)
    ir, manifest = folder / IR_FILE, folder / MANIFEST_FILE
    pipeline = define(cluster)
    compiler.Compiler().compile(pipeline, str(ir))
    text = ir.read_bytes()
    version = f"{NAME}-{sha256(text).hexdigest()[:12]}"
    compiler.Compiler().compile(
        pipeline,
        str(manifest),
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=KubernetesManifestOptions(
            pipeline_name=NAME,
            pipeline_version_name=version,
            namespace=namespace,
            include_pipeline_manifest=True,
        ),
    )
    spec = next(iter(yaml.safe_load_all(text)))
    definitions = spec["root"]["inputDefinitions"]["parameters"]
    pods = cluster.trainer_pods()
    return CompiledPipeline(ir, manifest, version, definitions, pods, _task_names(spec))


def _task_names(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the display names of the tasks that are pods, not loops or handlers, by their key."""
    dags = [spec["root"]["dag"]]
    dags += [c["dag"] for c in spec["components"].values() if "dag" in c]
    return {
        key: task["taskInfo"]["name"]
        for dag in dags
        for key, task in dag["tasks"].items()
        if "dag" not in spec["components"][task["componentRef"]["name"]]
    }

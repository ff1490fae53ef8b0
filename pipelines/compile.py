"""The compiled pipeline as files: KFP's IR, and the objects of a Kubernetes-native server."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions
from kfp.dsl.base_component import BaseComponent

from liverseg.storage.files import write_files
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
    """Write both files into `folder`; `namespace` is where the Kubernetes objects shall lie.

    Raises StoreError where they cannot be written; then neither is.
    """
    pipeline = define(cluster)
    text = _compiled(pipeline)
    version = f"{NAME}-{sha256(text).hexdigest()[:12]}"
    objects = _compiled(
        pipeline,
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=KubernetesManifestOptions(
            pipeline_name=NAME,
            pipeline_version_name=version,
            namespace=namespace,
            include_pipeline_manifest=True,
        ),
    )
    ir, manifest = folder / IR_FILE, folder / MANIFEST_FILE
    write_files({ir: text, manifest: objects})
    spec = next(iter(yaml.safe_load_all(text)))
    definitions = spec["root"]["inputDefinitions"]["parameters"]
    pods = cluster.trainer_pods()
    return CompiledPipeline(ir, manifest, version, definitions, pods, _task_names(spec))


def _compiled(pipeline: BaseComponent, **options: Any) -> bytes:
    """Return what kfp's compiler writes, which is only into a file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / IR_FILE
        compiler.Compiler().compile(pipeline, str(path), **options)
        return path.read_bytes()


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

"""What a compiled pipeline says of the pods that its tasks get on a cluster."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from kfp import dsl, kubernetes

from components import CONTROLLER_IMAGE, TRAINER_IMAGE
from pipelines.pod_options import ConfigMapKey, Resources, Toleration

# The keys of the Secret are the variables that liverseg/storage/s3/credentials.py reads.
REQUIRED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
OPTIONAL = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_SESSION_TOKEN")
GPU = "nvidia.com/gpu"
TASK, PREDICT = Resources("1", "4Gi"), Resources("4", "16Gi")
CA_FOLDER = "/etc/liverseg/ca"


@dataclass(frozen=True)
class Cluster:
    """The cluster that a pipeline is compiled for.

    Args:
        controller_image: For all tasks that need no torch, best by digest: name@sha256:...
        trainer_image: For `predict`.
        secret: Kubernetes Secret in the run's namespace, with the AWS_ variables of the store.
        pull_policy: IfNotPresent, Always or Never.
        image_pull_secret: Secret with which a private registry is asked; empty for none.
        ca: Where the certificates are that the store's is checked with, PEM; None for those of
            the image.
        tolerations: For every task.
        node_selector: (label, value) pairs for every task.
        task_resources: Of every task that runs in the controller image.
        predict_resources: Of `predict`.
        predict_gpus: GPUs of `predict`; 0: it runs on the CPU.
    """

    controller_image: str = CONTROLLER_IMAGE
    trainer_image: str = TRAINER_IMAGE
    secret: str = "liverseg-store"  # noqa: S105 - the name of one
    pull_policy: str = "IfNotPresent"
    image_pull_secret: str = ""
    ca: ConfigMapKey | None = None
    tolerations: tuple[Toleration, ...] = ()
    node_selector: tuple[tuple[str, str], ...] = ()
    task_resources: Resources = TASK
    predict_resources: Resources = PREDICT
    predict_gpus: int = 0

    def configure(self, task: dsl.PipelineTask) -> None:
        """Give a task its image, the store's credentials, resources, and where it may run."""
        predicts = task.container_spec.image == TRAINER_IMAGE
        task.set_container_image(self.trainer_image if predicts else self.controller_image)
        kubernetes.set_image_pull_policy(task, self.pull_policy)
        if self.image_pull_secret:
            kubernetes.set_image_pull_secrets(task, [self.image_pull_secret])
        kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "liverseg")
        for names, optional in ((REQUIRED, False), (OPTIONAL, True)):
            keys = {name: name for name in names}
            kubernetes.use_secret_as_env(task, self.secret, keys, optional=optional)
        if self.ca is not None:
            kubernetes.use_config_map_as_volume(task, self.ca.name, CA_FOLDER)
            task.set_env_variable("AWS_CA_BUNDLE", f"{CA_FOLDER}/{self.ca.key}")
        # Where the task serves its metrics (liverseg/steps/race/trainer_backend.py).
        kubernetes.use_field_path_as_env(task, "POD_IP", "status.podIP")
        resources = self.predict_resources if predicts else self.task_resources
        task.set_cpu_request(resources.cpu)
        # A pod that uses more than it requests is the first that its node evicts.
        task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
        for toleration in self.tolerations:
            _tolerate(task, toleration)
        for label, value in self.node_selector:
            kubernetes.add_node_selector(task, label, value)
        if predicts and self.predict_gpus:
            task.set_accelerator_type(GPU).set_accelerator_limit(self.predict_gpus)
            _tolerate(task, Toleration(GPU))

    def trainer_pods(self) -> str:
        """Return what of this holds for the trainers' pods too, as the JSON of `--pods`."""
        tolerations = [*self.tolerations, Toleration(GPU)]
        pods: dict[str, Any] = {
            "store_secret": self.secret,
            "node_selector": dict(self.node_selector),
            "tolerations": [toleration.manifest() for toleration in tolerations],
        }
        if self.image_pull_secret:
            pods["image_pull_secret"] = self.image_pull_secret
        if self.ca is not None:
            pods["ca_config_map"] = asdict(self.ca)
        return json.dumps(pods)


def _tolerate(task: dsl.PipelineTask, toleration: Toleration) -> None:
    kubernetes.add_toleration(task, **toleration.manifest())

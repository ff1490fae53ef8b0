"""What a compiled pipeline says of the pods that its tasks get on a cluster."""

from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from components import CONTROLLER_IMAGE, TRAINER_IMAGE
from liverseg.errors import SettingsError

# The keys of the Secret are the variables that liverseg/storage/s3/credentials.py reads.
REQUIRED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
OPTIONAL = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_SESSION_TOKEN")
GPU = "nvidia.com/gpu"
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
# A node that goes away is replaced within minutes. The whole of a task is repeated, and every
# task takes up what it finds in the store; an error of ours is just told three times.
RETRIES = 2
BACKOFF, LONGEST_BACKOFF = "30s", "300s"


@dataclass(frozen=True)
class Toleration:
    """A taint that the pods tolerate; an empty value means any, an empty effect means all."""

    key: str
    value: str = ""
    effect: str = ""

    def manifest(self) -> dict[str, str]:
        """Return it as Kubernetes writes it (core/v1 Toleration)."""
        operator = (
            {"operator": "Equal", "value": self.value} if self.value else {"operator": "Exists"}
        )
        return {"key": self.key, **operator, **({"effect": self.effect} if self.effect else {})}


@dataclass(frozen=True)
class Cluster:
    """The cluster that a pipeline is compiled for; the trainers' Jobs are no part of this.

    Args:
        controller_image: For all tasks that need no torch, best by digest: name@sha256:...
        trainer_image: For `predict`.
        secret: Kubernetes Secret in the run's namespace, with the AWS_ variables of the store.
        pull_policy: IfNotPresent, Always or Never.
        tolerations: For every task.
        node_selector: (label, value) pairs for every task.
        predict_gpus: GPUs of `predict`; 0: it runs on the CPU.
    """

    controller_image: str = CONTROLLER_IMAGE
    trainer_image: str = TRAINER_IMAGE
    secret: str = "liverseg-store"  # noqa: S105 - the name of one
    pull_policy: str = "IfNotPresent"
    tolerations: tuple[Toleration, ...] = ()
    node_selector: tuple[tuple[str, str], ...] = ()
    predict_gpus: int = 0

    def place(self, task: dsl.PipelineTask) -> None:
        """Give a task its image, the store's credentials, and where its pod may run."""
        on_gpu = task.container_spec.image == TRAINER_IMAGE
        task.set_container_image(self.trainer_image if on_gpu else self.controller_image)
        kubernetes.set_image_pull_policy(task, self.pull_policy)
        kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "liverseg")
        for names, optional in ((REQUIRED, False), (OPTIONAL, True)):
            keys = {name: name for name in names}
            kubernetes.use_secret_as_env(task, self.secret, keys, optional=optional)
        for toleration in self.tolerations:
            _tolerate(task, toleration)
        for label, value in self.node_selector:
            kubernetes.add_node_selector(task, label, value)
        if on_gpu and self.predict_gpus:
            task.set_accelerator_type(GPU).set_accelerator_limit(self.predict_gpus)
            _tolerate(task, Toleration(GPU))

    def trainer_pods(self) -> dict[str, Any]:
        """Return what of this holds for the trainers' pods too, as `--pods` takes it."""
        tolerations = [*self.tolerations, Toleration(GPU)]
        return {
            "store_secret": self.secret,
            "node_selector": dict(self.node_selector),
            "tolerations": [toleration.manifest() for toleration in tolerations],
        }


def parse_toleration(text: str) -> Toleration:
    """Return KEY[=VALUE][:EFFECT]; raises SettingsError."""
    rest, colon, effect = text.partition(":")
    key, _, value = rest.partition("=")
    if not key or (colon and effect not in EFFECTS):
        known = ", ".join(EFFECTS)
        raise SettingsError(f"toleration '{text}': write KEY[=VALUE][:EFFECT], EFFECT is {known}")
    return Toleration(key, value, effect)


def parse_node_selector(text: str) -> tuple[str, str]:
    """Return LABEL=VALUE; raises SettingsError."""
    label, equals, value = text.partition("=")
    if not label or not equals:
        raise SettingsError(f"node selector '{text}': write LABEL=VALUE")
    return label, value


def retried(task: dsl.PipelineTask) -> None:
    """Repeat a task whose pod was lost."""
    task.set_retry(
        RETRIES, backoff_duration=BACKOFF, backoff_factor=2.0, backoff_max_duration=LONGEST_BACKOFF
    )


def _tolerate(task: dsl.PipelineTask, toleration: Toleration) -> None:
    kubernetes.add_toleration(task, **toleration.manifest())

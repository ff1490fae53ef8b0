"""How trainers' pods look, as a person chooses it (`--pods`, the pipeline parameter `pods`)."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from liverseg.errors import SettingsError
from liverseg.settings import overlay

# apimachinery's resource.Quantity, without a sign.
_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
# Of every pod that serves metrics; OpenTelemetry's exporters for Prometheus have it, too.
METRICS_PORT = 9464
QUEUE = "kueue.x-k8s.io/queue-name"
# By these labels Jobs and pods are found, selected by network policies, and queued.
_OUR_LABELS = re.compile(
    r"liverseg\.io/.*|app\.kubernetes\.io/(name|component|managed-by)"
    rf"|{re.escape(QUEUE)}|sidecar\.istio\.io/inject"
)


@dataclass(frozen=True)
class PodSettings:
    """How trainers run on a cluster; nothing of it changes weights."""

    image: str = ""
    """The trainer image, best by digest (NAME@sha256:...)."""
    namespace: str = ""
    """Empty: the namespace of this pod, or of the kubeconfig's context."""
    queue: str = ""
    """A Kueue LocalQueue; it then decides when a Job starts."""
    gpu_resource: str = "nvidia.com/gpu"
    gpus: int = 1
    """Of one trainer; 0 trains on the CPU."""
    cpu: str = "4"
    memory: str = "16Gi"
    disk: str = "4Gi"
    """For /tmp, where the training images are: 4 bytes per voxel. Asked for, and no limit."""
    shared_memory: str = ""
    """Size of /dev/shm; empty: the runtime's 64 MiB, which is enough without loader processes."""
    service_account: str = "liverseg-trainer"
    store_secret: str = "liverseg-store"  # noqa: S105 - its name
    """Secret whose entries become environment variables: AWS_ENDPOINT_URL and the credentials."""
    ca_config_map: dict[str, str] = field(default_factory=dict)
    """`name` of a ConfigMap and the `key` in it of the PEM certificates that the store's https is
    checked against, in place of the image's own; empty: the image's own."""
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ({"key": "nvidia.com/gpu", "operator": "Exists"},)
    priority_class: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    """More labels for Jobs and pods; those that liverseg sets are refused."""
    image_pull_secret: str = ""
    seconds_per_iteration: float = 1.0
    """A pod that takes four times as long, and an hour more, is ended."""
    orphan_grace: float = 1800.0
    """Seconds without a controller after which a trainer saves and ends."""
    grace_seconds: int = 120
    """From SIGTERM to SIGKILL; the time to save."""
    poll_seconds: float = 10.0
    """Between two looks at the cluster and the store."""

    @classmethod
    def from_json(cls, text: str) -> "PodSettings":
        """Return the settings of a JSON object; SettingsError names what is wrong."""
        try:
            values = json.loads(text or "{}")
        except ValueError as error:
            raise SettingsError(
                f'pods must be a JSON object such as {{"memory": "32Gi"}}: {error}: {text!r}'
            ) from error
        pods: PodSettings = overlay(cls(), values, "pods")
        pods._check()
        return pods

    @property
    def requests(self) -> dict[str, str]:
        """What the scheduler sets aside for a trainer, besides its GPUs."""
        return {"cpu": self.cpu, "memory": self.memory, "ephemeral-storage": self.disk}

    def _check(self) -> None:
        for name in ("cpu", "memory", "disk", "shared_memory"):
            amount = getattr(self, name)
            if amount and not _QUANTITY.fullmatch(amount):
                raise SettingsError(
                    f"pods.{name} ('{amount}') is not a valid Kubernetes quantity, such as "
                    "250m, 4, 1500Mi or 16Gi"
                )
        if self.gpus < 0:
            raise SettingsError(f"pods.gpus ({self.gpus}) must be at least 0")
        for name in ("seconds_per_iteration", "orphan_grace", "grace_seconds", "poll_seconds"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"pods.{name} ({getattr(self, name)}) must be above 0")
        for label, value in self.labels.items():
            if _OUR_LABELS.fullmatch(label):
                instead = "give pods.queue" if label == QUEUE else "leave it out"
                raise SettingsError(
                    f"pods.labels: '{label}' ('{value}') is set by liverseg itself; {instead}"
                )
        given = self.ca_config_map
        if given and (set(given) != {"name", "key"} or not all(given.values())):
            raise SettingsError(
                f"pods.ca_config_map ({given}) needs exactly a name and a key, such as "
                '{"name": "store-ca", "key": "ca.crt"}'
            )

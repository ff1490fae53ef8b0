"""What a trainer's Kubernetes Job looks like, and what Jobs and pods say of it. Pure.

Sources: batch/v1 Job (backoffLimit, podReplacementPolicy, ttlSecondsAfterFinished), core/v1 Pod
(activeDeadlineSeconds, status.conditions DisruptionTarget), Pod Security Standard "restricted".
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from liverseg.errors import SettingsError
from liverseg.race.records.job import Job, JobState
from liverseg.settings import digest, overlay

Manifest = dict[str, Any]

SPEC_SHA256 = "liverseg.io/spec-sha256"
STUDY, NONCE = "liverseg.io/study", "liverseg.io/nonce"
JOB_NAME = "batch.kubernetes.io/job-name"
QUEUE = "kueue.x-k8s.io/queue-name"
# A pod is killed when it takes this many times as long as it should; the first seconds are for the
# node, the image and the data.
_DEADLINE_FACTOR = 4
_STARTUP_SECONDS = 3600
# A pod that should have been gone for so long is on a node that nobody hears from.
CUT_OFF_SECONDS = 60.0
# apimachinery's resource.Quantity, without a sign.
_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
# Asked to end from outside, which says nothing of the seed (race/decide/state.py).
_ASKED_TO_END = -15


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
    shared_memory: str = ""
    """Size of /dev/shm; empty: the runtime's 64 MiB, which is enough without loader processes."""
    service_account: str = "liverseg-trainer"
    store_secret: str = "liverseg-store"  # noqa: S105 - its name
    """Secret whose entries become environment variables: AWS_ENDPOINT_URL and the credentials."""
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ({"key": "nvidia.com/gpu", "operator": "Exists"},)
    priority_class: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    """More labels for Jobs and pods."""
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
                f'pods are not JSON, such as {{"memory": "32Gi"}}: {error}: {text!r}'
            ) from error
        found: PodSettings = overlay(cls(), values, "pods")
        for name in ("cpu", "memory", "shared_memory"):
            amount = getattr(found, name)
            if amount and not _QUANTITY.fullmatch(amount):
                raise SettingsError(
                    f"pods.{name} ('{amount}') is no amount that Kubernetes knows, such as "
                    "250m, 4, 1500Mi or 16Gi"
                )
        if found.gpus < 0:
            raise SettingsError(f"pods.gpus ({found.gpus}) must be at least 0")
        for name in ("seconds_per_iteration", "orphan_grace", "grace_seconds", "poll_seconds"):
            if not getattr(found, name) > 0:
                raise SettingsError(f"pods.{name} ({getattr(found, name)}) must be above 0")
        return found


def selector(study: str, nonce: str) -> str:
    """Return the label selector of all Jobs and pods of a study; its nonce stands for the store."""
    return f"{STUDY}={study},{NONCE}={nonce}"


def manifest(
    job: Job,
    store: str,
    settings: PodSettings,
    owner: Mapping[str, Any] | None,
    avoid: Sequence[str] = (),
) -> Manifest:
    """Return the batch/v1 Job of an attempt.

    Args:
        job: What it does.
        store: URL of the store.
        settings: How its pod looks.
        owner: An owner reference, or None.
        avoid: Nodes on which earlier attempts ended; another one is preferred.
    """
    labels = {
        "app.kubernetes.io/name": "liverseg",
        "app.kubernetes.io/component": "trainer",
        "app.kubernetes.io/managed-by": "liverseg",
        STUDY: job.study,
        NONCE: job.nonce,
        "liverseg.io/seed": f"{job.seed:04d}",
        "liverseg.io/rung": str(job.rung_name),
        "liverseg.io/attempt": str(job.attempt),
        **settings.labels,
    }
    spec: Manifest = {
        # A Job that replaced its own pods would put two into one attempt.
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "ttlSecondsAfterFinished": 604_800,
        "template": {
            # A mesh's sidecar would never end, and the pod with it.
            "metadata": {
                "labels": labels | {"sidecar.istio.io/inject": "false"},
                "annotations": {
                    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                    "karpenter.sh/do-not-disrupt": "true",
                },
            },
            "spec": _pod(job, store, settings),
        },
    }
    if settings.queue:
        spec["suspend"] = True  # Kueue's from here on
    metadata: Manifest = {
        "name": job.name,
        "labels": labels | ({QUEUE: settings.queue} if settings.queue else {}),
        "annotations": {SPEC_SHA256: digest(spec)},
    }
    if avoid:  # after the digest: which nodes these are, only one controller may know
        spec["template"]["spec"]["affinity"] = _elsewhere(avoid)
    if owner is not None:
        metadata["ownerReferences"] = [
            # `controller: true` would make Kueue leave the Job to its owner.
            {**owner, "controller": False, "blockOwnerDeletion": False}
        ]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _elsewhere(nodes: Sequence[str]) -> Manifest:
    term = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": sorted(nodes)}
    preferred = {"weight": 100, "preference": {"matchExpressions": [term]}}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}}


def difference(wanted: Manifest, found: Mapping[str, Any]) -> str | None:
    """Return what makes an existing Job of that name another one, or None if it is the same."""
    labels = found["metadata"].get("labels", {})
    for name, value in wanted["metadata"]["labels"].items():
        if labels.get(name) != value:
            return f"label {name} is {labels.get(name)!r}, not {value!r}"
    here = found["metadata"].get("annotations", {}).get(SPEC_SHA256)
    if here == wanted["metadata"]["annotations"][SPEC_SHA256]:
        return None
    ours, theirs = (j["spec"]["template"]["spec"]["containers"][0] for j in (wanted, found))
    for name in ("image", "args", "resources"):
        if ours[name] != theirs.get(name):
            return f"{name} is {theirs.get(name)}, not {ours[name]}"
    return f"annotation {SPEC_SHA256} is {here}"


def states(
    jobs: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]], now: float
) -> dict[str, JobState]:
    """Return what Jobs and pods say, by the Job's name; `now`: unix time.

    Pods are looked at on their own, since they outlive a deleted Job until they have saved.
    """
    of: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        name = pod["metadata"].get("labels", {}).get(JOB_NAME)
        if name is not None:
            of.setdefault(name, []).append(pod)
    found = {job["metadata"]["name"]: job for job in jobs}
    names = sorted(found.keys() | of.keys())
    return {name: _state(name, found.get(name), of.get(name, []), now) for name in names}


def nodes(pods: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return on which node each Job's pod is or was."""
    return {
        pod["metadata"]["labels"][JOB_NAME]: pod["spec"]["nodeName"]
        for pod in pods
        if JOB_NAME in pod["metadata"].get("labels", {}) and pod["spec"].get("nodeName")
    }


def _state(
    name: str, job: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]], now: float
) -> JobState:
    last = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
    alive = [pod for pod in pods if pod["status"].get("phase") not in ("Succeeded", "Failed")]
    cut_off = [pod for pod in alive if _should_be_gone_for(pod, now) > CUT_OFF_SECONDS]
    conditions = [] if job is None else job.get("status", {}).get("conditions", [])
    ended = {c["type"]: c for c in conditions if c["status"] == "True"}
    over = job is None or "Complete" in ended or "Failed" in ended
    if (alive or not over) and not cut_off:
        pod = alive[-1] if alive else None
        where = "no pod yet" if pod is None else _where(pod)
        return JobState(name, running=True, message=where, waits_for=_waits_for(job, pod))
    if "Complete" in ended:  # its pod may be gone already
        return _ended(name, last, "") if last is not None else JobState(name, False, 0)
    if cut_off:
        node = cut_off[-1]["spec"].get("nodeName")
        return JobState(name, False, _ASKED_TO_END, message=f"its node {node} does not answer")
    told = ended.get("Failed", {}).get("message", "")
    if last is None:
        message = f"its pod was deleted; {told}".rstrip("; ")
        return JobState(name, False, _ASKED_TO_END, message=message)
    return _ended(name, last, told)


def _ended(name: str, pod: Mapping[str, Any], told: str) -> JobState:
    """Return how a pod ended."""
    status = pod["status"]
    where = _where(pod)
    terminated = _terminated(status)
    code = None if terminated is None else int(terminated["exitCode"])
    reason = status.get("reason") or (terminated or {}).get("reason", "")
    # Out of memory it will be again: the trainer's own doing, not its node's.
    if code is not None and code > 128 and reason != "OOMKilled":
        code = 128 - code
    for condition in status.get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            told = f"{condition.get('reason')}: {condition.get('message', '')}".rstrip(": ")
            if code is None or code < 0:
                code = _ASKED_TO_END
    words = [word for word in (reason, told, where) if word and word != "Error"]
    finished = unix_time(terminated.get("finishedAt")) if terminated else None
    # From here on the pod has its GPU, the pull of its image included.
    started = unix_time(status.get("startTime"))
    return JobState(name, False, code, started, finished, "; ".join(words))


def _where(pod: Mapping[str, Any]) -> str:
    return f"pod {pod['metadata']['name']} on {pod['spec'].get('nodeName', 'no node')}"


def _terminated(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for container in status.get("containerStatuses", []):
        found: Mapping[str, Any] | None = container.get("state", {}).get("terminated")
        if found is not None:
            return found
    return None


def _waits_for(job: Mapping[str, Any] | None, pod: Mapping[str, Any] | None) -> str:
    """Say what a Job's live pod waits for; empty where it is scheduled, or soon will be."""
    if pod is None:
        suspended = job is not None and job["spec"].get("suspend")
        return "its Job is suspended; its queue has not let it in" if suspended else ""
    status = pod["status"]
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            return ": ".join(waiting[w] for w in ("reason", "message") if waiting.get(w))
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason"))
    return ""


def _should_be_gone_for(pod: Mapping[str, Any], now: float) -> float:
    """Return for how many seconds a pod has outlived its deletion and its grace period."""
    until = unix_time(pod["metadata"].get("deletionTimestamp"))
    return 0.0 if until is None else now - until


def unix_time(text: str | None) -> float | None:
    """Return an RFC 3339 time of the API as unix time."""
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _pod(job: Job, store: str, settings: PodSettings) -> Manifest:
    """Return the pod's spec; it satisfies Pod Security "restricted"."""
    expected = job.iterations * settings.seconds_per_iteration
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {}}]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - the pod's own
    if settings.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": settings.shared_memory}
        volumes.append({"name": "shm", "emptyDir": memory})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    gpus = {settings.gpu_resource: str(settings.gpus)} if settings.gpus else {}
    container = {
        "name": "trainer",
        "image": settings.image,
        "args": [
            "train",
            f"--store={store}",
            f"--study={job.study}",
            f"--seed={job.seed}",
            f"--rung={job.rung_name}",
            f"--attempt={job.attempt}",
            f"--orphan-grace={settings.orphan_grace:g}",
            # Kueue, and whoever suspends a Job by hand, makes another pod for it.
            "--pod=$(POD_UID)",
        ],
        "env": [{"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
        "envFrom": [{"secretRef": {"name": settings.store_secret}}],
        "resources": {
            "requests": {"cpu": settings.cpu, "memory": settings.memory, **gpus},
            "limits": {"memory": settings.memory, **gpus},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    spec: Manifest = {
        "restartPolicy": "Never",
        # On the Job it would count the time in the queue, too.
        "activeDeadlineSeconds": int(_DEADLINE_FACTOR * expected) + _STARTUP_SECONDS,
        "terminationGracePeriodSeconds": settings.grace_seconds,
        "serviceAccountName": settings.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    if settings.gpus and settings.tolerations:
        spec["tolerations"] = list(settings.tolerations)
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.priority_class:
        spec["priorityClassName"] = settings.priority_class
    if settings.image_pull_secret:
        spec["imagePullSecrets"] = [{"name": settings.image_pull_secret}]
    return spec

"""What a trainer's Kubernetes Job looks like. Pure.

Sources: batch/v1 Job (backoffLimit, podReplacementPolicy, ttlSecondsAfterFinished), core/v1 Pod
(activeDeadlineSeconds), Pod Security Standard "restricted".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from liverseg.platform.pod_settings import METRICS_PORT, QUEUE, PodSettings
from liverseg.race.executors.port import arguments
from liverseg.race.records.job import Job
from liverseg.settings import digest

Manifest = dict[str, Any]

SPEC_SHA256 = "liverseg.io/spec-sha256"
STUDY, NONCE = "liverseg.io/study", "liverseg.io/nonce"
# A pod is killed when it takes this many times as long as it should; the first seconds are for the
# node, the image and the data.
_DEADLINE_FACTOR = 4
_STARTUP_SECONDS = 3600
_CA_FOLDER = "/etc/liverseg/ca"


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
    """Return the batch/v1 Job of an attempt, which the object of an owner reference may own.

    Its pod prefers other nodes than those to `avoid`, on which earlier attempts ended.
    """
    labels = settings.labels | {
        "app.kubernetes.io/name": "liverseg",
        "app.kubernetes.io/component": "trainer",
        "app.kubernetes.io/managed-by": "liverseg",
        STUDY: job.study,
        NONCE: job.nonce,
        "liverseg.io/seed": f"{job.seed:04d}",
        "liverseg.io/rung": str(job.at.rung),
        "liverseg.io/attempt": str(job.attempt),
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
        term = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": sorted(avoid)}
        preferred = {"weight": 100, "preference": {"matchExpressions": [term]}}
        affinity = {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}
        spec["template"]["spec"]["affinity"] = {"nodeAffinity": affinity}
    if owner is not None:
        # `controller: true` would make Kueue leave the Job to its owner.
        metadata["ownerReferences"] = [{**owner, "controller": False, "blockOwnerDeletion": False}]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def difference(wanted: Manifest, existing: Mapping[str, Any]) -> str | None:
    """Return what makes an existing Job of that name another one, or None if it is the same."""
    labels = existing["metadata"].get("labels", {})
    for name, value in wanted["metadata"]["labels"].items():
        if labels.get(name) != value:
            return f"label {name} is {labels.get(name)!r}, not {value!r}"
    here = existing["metadata"].get("annotations", {}).get(SPEC_SHA256)
    if here == wanted["metadata"]["annotations"][SPEC_SHA256]:
        return None
    ours, theirs = (j["spec"]["template"]["spec"]["containers"][0] for j in (wanted, existing))
    for name in ("image", "args", "resources"):
        if ours[name] != theirs.get(name):
            return f"{name} is {theirs.get(name)}, not {ours[name]}"
    return f"annotation {SPEC_SHA256} is {here}"


def _pod(job: Job, store: str, settings: PodSettings) -> Manifest:
    """Return the pod's spec; it satisfies Pod Security "restricted"."""
    expected = job.iterations * settings.seconds_per_iteration
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - the pod's own
    if settings.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": settings.shared_memory}
        volumes.append({"name": "shm", "emptyDir": memory})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    env: list[Manifest] = [
        {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        # A file in the working directory hides no module of Python's own.
        {"name": "PYTHONSAFEPATH", "value": "1"},
    ]
    if settings.ca_config_map:
        name, key = settings.ca_config_map["name"], settings.ca_config_map["key"]
        items = [{"key": key, "path": "ca.crt"}]
        volumes.append({"name": "ca", "configMap": {"name": name, "items": items}})
        mounts.append({"name": "ca", "mountPath": _CA_FOLDER, "readOnly": True})
        env.append({"name": "AWS_CA_BUNDLE", "value": f"{_CA_FOLDER}/ca.crt"})
    gpus = {settings.gpu_resource: str(settings.gpus)} if settings.gpus else {}
    container = {
        "name": "trainer",
        "image": settings.image,
        "args": [
            "train",
            f"--store={store}",
            *arguments(job),
            f"--orphan-grace={settings.orphan_grace:g}",
            f"--metrics-port={METRICS_PORT}",
            # Kueue, and whoever suspends a Job by hand, makes another pod for it.
            "--pod=$(POD_UID)",
        ],
        "env": env,
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        "envFrom": [{"secretRef": {"name": settings.store_secret}}],
        "resources": {
            "requests": settings.requests | gpus,
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
    chosen = {
        "tolerations": settings.gpus and list(settings.tolerations),
        "nodeSelector": settings.node_selector,
        "priorityClassName": settings.priority_class,
        "imagePullSecrets": settings.image_pull_secret and [{"name": settings.image_pull_secret}],
    }
    return spec | {name: value for name, value in chosen.items() if value}

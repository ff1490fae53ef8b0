"""Where trainers run: as processes of this machine, or as pods of a cluster."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from liverseg.errors import SettingsError
from liverseg.platform.pod_settings import METRICS_PORT, PodSettings
from liverseg.race.executors.port import Executor
from liverseg.race.executors.process import ProcessExecutor
from liverseg.race.records.study import Study
from liverseg.storage.port import LocatedStore

Kind = Literal["process", "kubernetes"]
PROCESS_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class TrainerBackend:
    """What runs the trainers, and how."""

    kind: Kind = "process"
    pods: PodSettings = field(default_factory=PodSettings)

    @classmethod
    def chosen(
        cls,
        kind: str,
        trainer_image: str,
        pods: str,
        environment: Mapping[str, str] = os.environ,
        starts: bool = True,
    ) -> "TrainerBackend":
        """Return the backend that options and parameters choose; "auto" is pods inside a pod.

        Raises SettingsError, also where it `starts` pods and no image was chosen.
        """
        if kind == "auto":
            kind = "kubernetes" if environment.get("KUBERNETES_SERVICE_HOST") else "process"
        settings = PodSettings.from_json(pods)
        if trainer_image:
            settings = replace(settings, image=trainer_image)
        if kind == "process":
            return cls("process", settings)
        if kind != "kubernetes":
            raise SettingsError(f"executor '{kind}' is unknown; known: auto, process, kubernetes")
        if starts and not settings.image:
            raise SettingsError("pods need an image; give --trainer-image NAME@sha256:...")
        return cls("kubernetes", settings)

    def executor(self, store: LocatedStore, study: Study) -> tuple[Executor, float]:
        """Return the executor of a study, and the seconds between two looks at it."""
        if self.kind == "process":
            # -P: a file in the working directory hides no module of Python's own.
            python = [sys.executable, "-P", "-m", "liverseg.cli"]
            command = [*python, "train", "--store", store.url]
            return ProcessExecutor(store.work, command), PROCESS_POLL_SECONDS
        from liverseg.platform.kubernetes_api import connect
        from liverseg.race.executors.kubernetes import KubernetesExecutor

        api = connect(self.pods.namespace)
        pod = os.environ.get("KFP_POD_NAME")
        owner = api.workflow_of(pod) if pod else None
        executor = KubernetesExecutor(api, store.url, study, self.pods, owner)
        return executor, self.pods.poll_seconds


def metrics_address(
    port: int | None, environment: Mapping[str, str] = os.environ
) -> tuple[str, int]:
    """Return host and port of a process's metrics; None is METRICS_PORT in a pod and else 0: off.

    A pod serves them at its own address, any other process to this machine only.
    """
    if port is None:
        port = METRICS_PORT if environment.get("KUBERNETES_SERVICE_HOST") else 0
    return environment.get("POD_IP") or "127.0.0.1", port


LOCAL = TrainerBackend()

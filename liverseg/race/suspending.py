"""Trainers as Kubernetes Jobs that are suspended at a rung and resumed (`pause: suspend`)."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from liverseg.race import carriers, pods
from liverseg.race.executor import Job, JobState
from liverseg.race.kubernetes import Conflict, KubernetesExecutor, Missing


class SuspendingExecutor(KubernetesExecutor):
    """A KubernetesExecutor with one Job a seed (race/carriers.py).

    Arguments as there, and `longest`: iterations of the last rung.
    """

    def __init__(self, *args: Any, longest: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._longest = longest
        # By the Job's name: what it carries, or carried when it was seen last.
        self._carried: dict[str, str] = {}

    def submit(self, job: Job) -> bool:
        """Resume the seed's Job, or create one; False where the job is there or cannot start."""
        if job.name in self._known:
            return False
        found = self._carriers(job.seed)
        if any(carriers.carried(carrier) == job.name for carrier in found):
            return False
        with suppress(Conflict, Missing):
            for carrier in found:
                if carriers.is_paused(carrier) and not carriers.is_over(carrier):
                    self._patch(carrier, carriers.resumed(carrier, job))
                    return self._remembered(carrier, job)
            number = carriers.next_number(
                [*(c["metadata"]["name"] for c in found), *self._carried], job
            )
            wanted = carriers.manifest(
                job, self._store, self._settings, self._owner, number, self._longest
            )
            self._ask(self._jobs.create_namespaced_job, self._namespace, wanted)
            return self._remembered(wanted, job)
        # Somebody else was faster: the next look tells.
        return False

    def pause(self, name: str) -> None:
        """Suspend the job's carrier: its pod is deleted."""
        carrier = self._carrying(name)
        if carrier is None or carriers.is_over(carrier) or carrier["spec"].get("suspend"):
            return
        listed = self._list(self._pods.list_namespaced_pod)
        with suppress(Conflict, Missing):
            self._patch(carrier, carriers.paused(carrier, listed))

    def cancel(self, name: str) -> None:
        """Delete the job's carrier."""
        carrier = self._carrying(name)
        if carrier is not None:
            self._delete(carrier["metadata"]["name"], carrier["metadata"]["uid"])

    def _told(
        self, jobs: Sequence[Mapping[str, Any]], listed: Sequence[Mapping[str, Any]]
    ) -> dict[str, JobState]:
        self._carried |= {job["metadata"]["name"]: carriers.carried(job) for job in jobs}
        found = carriers.states(jobs, listed, self._clock())
        # Pods outlive a deleted Job until they have saved.
        left = [pod for pod in listed if not any(carriers.is_of(pod, job) for job in jobs)]
        for name, state in pods.states([], left, self._clock()).items():
            known = self._carried.get(name, "")
            if known in self._known and known not in found:
                found[known] = replace(state, name=known)
        return found

    def _remembered(self, carrier: Mapping[str, Any], job: Job) -> bool:
        self._carried[carrier["metadata"]["name"]] = job.name
        self._known[job.name] = JobState(job.name, running=True)
        return True

    def _object(self, name: str) -> str:
        found = (job for job, carried in self._carried.items() if carried == name)
        return next(found, name)

    def _carrying(self, name: str) -> Mapping[str, Any] | None:
        jobs = self._list(self._jobs.list_namespaced_job)
        return next((job for job in jobs if carriers.carried(job) == name), None)

    def _carriers(self, seed: int) -> list[Mapping[str, Any]]:
        return [
            job
            for job in self._list(self._jobs.list_namespaced_job)
            if job["metadata"].get("labels", {}).get(carriers.SEED) == f"{seed:04d}"
        ]

    def _patch(self, carrier: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        name = carrier["metadata"]["name"]
        self._ask(self._jobs.patch_namespaced_job, name, self._namespace, body)

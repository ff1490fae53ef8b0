"""What can be done to a cluster in the middle of a race.

Faults of a node are made on the test cluster only, whose programs are this machine's processes.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cluster import Race


@dataclass(frozen=True)
class Fault:
    """Something that happens once a trainer is at work."""

    name: str
    make: Callable[[Race], None]
    of_a_node: bool = False
    """Hits programs of the cluster itself: never on somebody else's."""
    another_attempt: bool = True
    """A trainer loses its process, so that there are more attempts than without."""


def delete_pod(race: Race) -> None:
    pod = race.a_trainer_at_work()["metadata"]["name"]
    race.cluster.run("delete", "pod", "-n", race.namespace, pod, "--wait=false")


def delete_job(race: Race) -> None:
    job = race.a_trainer_at_work()["metadata"]["labels"]["batch.kubernetes.io/job-name"]
    race.cluster.run("delete", "job", "-n", race.namespace, job, "--wait=false")


def evict_pod(race: Race) -> None:
    """Through the eviction API, as `kubectl drain` and the autoscalers do."""
    pod = race.a_trainer_at_work()["metadata"]["name"]
    path = f"/api/v1/namespaces/{race.namespace}/pods/{pod}/eviction"
    body = (
        '{"apiVersion": "policy/v1", "kind": "Eviction", '
        f'"metadata": {{"name": "{pod}", "namespace": "{race.namespace}"}}}}'
    )
    race.cluster.run("create", "--raw", path, "-f", "-", text=body)


def suspend_job(race: Race) -> None:
    """As Kueue does when it evicts a workload; nobody lets it in again."""
    job = race.a_trainer_at_work()["metadata"]["labels"]["batch.kubernetes.io/job-name"]
    suspended = '{"spec": {"suspend": true}}'
    race.cluster.run("patch", "job", "-n", race.namespace, job, "--type=merge", "-p", suspended)


def delete_controller_pod(race: Race) -> None:
    race.a_trainer_at_work()
    labels = "app.kubernetes.io/component=controller"
    race.cluster.run(
        "delete", "pod", "-n", race.namespace, "-l", labels, "--force", "--grace-period=0"
    )


def second_controller(race: Race) -> None:
    race.a_trainer_at_work()
    race.start("liverseg-study-2")


def drain_node(race: Race) -> None:
    node = race.a_trainer_at_work()["spec"]["nodeName"]
    words = ("--ignore-daemonsets", "--delete-emptydir-data", "--force")
    # Others' pods, and the controller, which a node selector would keep elsewhere, stay.
    chosen = f"--pod-selector=liverseg.io/study={race.study.id}"
    try:
        race.cluster.run("drain", node, *words, chosen, "--timeout=120s")
    finally:
        race.cluster.run("uncordon", node)


def kill_kubelet(race: Race) -> None:
    _away(race, "kubelet", 90.0)


def kill_api_server(race: Race) -> None:
    _away(race, "kube-apiserver", 60.0)


def stop_store(race: Race) -> None:
    _away(race, "s3", 60.0)


def _away(race: Race, program: str, seconds: float) -> None:
    """Kill a program of the test cluster (kill -9), and bring it back after `seconds`."""
    race.a_trainer_at_work()
    # So long nobody says of a pod that it has ended.
    race.monitor.ending_seconds += seconds
    home = Path(os.environ["TEST_CLUSTER_HOME"])
    os.kill(int((home / "pid" / program).read_text()), signal.SIGKILL)
    time.sleep(seconds)
    subprocess.run([f"{os.environ['TEST_CLUSTER']}/up"], check=True, capture_output=True)


FAULTS = (
    Fault("delete a training pod", delete_pod),
    Fault("delete a Job", delete_job),
    Fault("evict a pod through the eviction API", evict_pod),
    Fault("suspend a Job as Kueue does", suspend_job),
    Fault("drain the node", drain_node),
    Fault("kill the controller's pod", delete_controller_pod, another_attempt=False),
    Fault("two controllers", second_controller, another_attempt=False),
    Fault("kill the kubelet for 90 s", kill_kubelet, True, another_attempt=False),
    Fault("kill the kube-apiserver for 60 s", kill_api_server, True, another_attempt=False),
    Fault("stop S3 for 60 s", stop_store, True, another_attempt=False),
)

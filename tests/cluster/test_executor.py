"""The Kubernetes executor keeps the promises of every executor, and asks for no right too many."""

import json
import random
import time
from collections.abc import Callable

import pytest
from kubernetes import client, config

from liverseg.errors import SettingsError, StudyError
from liverseg.platform.kubernetes_api import KubernetesApi, connect
from liverseg.platform.pod_settings import PodSettings
from liverseg.race.executors.kubernetes import KubernetesExecutor
from liverseg.race.executors.port import Executor
from liverseg.race.records.job import Job
from liverseg.settings import BASELINE_SEED, from_mapping
from tests.cluster.cluster import FOUR, Cluster, Race
from tests.race.executor_contract import ExecutorContract


def executor_of(
    race: Race,
    api: KubernetesApi | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    **pods: object,
) -> Executor:
    settings = PodSettings.from_json(json.dumps(race.pods | pods))
    settings = PodSettings(**(vars(settings) | {"image": race.cluster.images["trainer"]}))
    api = api or connect(race.namespace)
    return KubernetesExecutor(api, race.store.url, race.study, settings, monotonic=monotonic)


@pytest.fixture
def race(race_of: Callable[..., Race]) -> Race:
    # Another study each time: the name of a Job is its study's.
    rate = {"training": {"learning_rate": random.uniform(1e-4, 1e-3)}}
    return race_of(from_mapping(rate, FOUR))


class TestKubernetesExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def _in_a_namespace(self, race: Race) -> None:
        self.race, self.study, self.nonce = race, race.study.id, race.study.nonce

    def make(self) -> Executor:
        return executor_of(self.race)

    def short(self, seed: int = 0) -> Job:
        return Job.of(self.study, self.nonce, seed, 0, 0, self.race.study.rungs[0].iterations)

    def pass_time(self, executor: Executor) -> None:
        time.sleep(0.5)


def test_another_controller_finds_the_jobs_and_refuses_those_that_differ(race: Race) -> None:
    job = Job.of(race.study.id, race.study.nonce, 0, 0, 0, race.study.rungs[0].iterations)
    assert executor_of(race).submit(job)
    later = executor_of(race)
    assert not later.submit(job)
    assert later.states()[job.name].running
    with pytest.raises(StudyError, match=r"exists in namespace .*: resources is .* delete it"):
        executor_of(race, cpu="100m").submit(job)


def test_a_deleted_job_has_ended_and_its_name_is_not_used_again(race: Race) -> None:
    # To the last rung: on a busy machine the first is reached before the signal.
    job = Job.of(race.study.id, race.study.nonce, 0, 2, 0, race.study.rungs[2].iterations)
    executor = executor_of(race)
    executor.submit(job)
    assert executor.states()[job.name].running
    race.cluster.run("delete", "job", "-n", race.namespace, job.name)
    race.wait(lambda: not executor.states()[job.name].running, 120)
    assert executor.states()[job.name].exit_code in (-15, 75)
    assert not executor.submit(job)


def test_a_trainer_that_failed_is_reported_with_its_last_line(race: Race) -> None:
    executor = executor_of(race)
    unknown = Job.of(race.study.id, race.study.nonce, BASELINE_SEED, 0, 0, 1)
    wrong = Job(race.study.id, race.study.nonce, 3, 9, 0, 1, unknown.name)
    executor.submit(wrong)
    race.wait(lambda: not executor.states()[wrong.name].running, 120)
    state = executor.states()[wrong.name]
    assert state.exit_code == 2
    assert "rung (9) must be in 0 .. 2" in executor.last_line(wrong.name)


RULES = [
    (group, resource, verb)
    for group, resource, verbs in (
        ("batch", "jobs", ("create", "delete", "get", "list")),
        ("", "pods", ("list",)),
        ("", "pods/log", ("get",)),
        ("", "events", ("list",)),
    )
    for verb in verbs
]


def test_a_job_whose_pod_cannot_be_created_says_why(race: Race) -> None:
    executor = executor_of(race, service_account="nobody")
    job = Job.of(race.study.id, race.study.nonce, 0, 0, 0, race.study.rungs[0].iterations)
    executor.submit(job)
    race.wait(lambda: "FailedCreate" in executor.states()[job.name].waits_for, 60)
    reason = executor.states()[job.name].waits_for
    assert 'serviceaccount "nobody" not found' in reason


def test_the_role_grants_what_the_executor_calls_and_nothing_else(cluster: Cluster) -> None:
    (role,) = [o for o in cluster.overlay("test", "any") if o["kind"] == "Role"]
    granted = [
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
    assert sorted(granted) == sorted(RULES)


@pytest.mark.parametrize("missing", [None, *RULES], ids=str)
def test_without_any_verb_of_its_role_a_controller_cannot_do_its_work(
    race: Race, missing: tuple[str, str, str] | None
) -> None:
    if missing is not None:
        (role,) = [o for o in race.cluster.overlay("test", race.namespace) if o["kind"] == "Role"]
        for rule in role["rules"]:
            if missing[0] in rule["apiGroups"] and missing[1] in rule["resources"]:
                rule["verbs"] = [verb for verb in rule["verbs"] if verb != missing[2]]
        role["rules"] = [rule for rule in role["rules"] if rule["verbs"]]
        race.cluster.apply([role])
    if missing is None:
        everything_a_controller_does(race)
        return
    with pytest.raises(SettingsError, match=f"cannot {missing[2]} resource .*RoleBinding"):
        everything_a_controller_does(race)


def everything_a_controller_does(race: Race) -> None:
    """Every call of the executor, with the token of the controller's service account."""
    token = race.cluster.run("create", "token", "liverseg-controller", "-n", race.namespace).strip()
    configuration = client.Configuration()
    config.load_kube_config(client_configuration=configuration)
    configuration.cert_file = configuration.key_file = None
    configuration.api_key = {"authorization": f"Bearer {token}"}
    api = KubernetesApi(client.ApiClient(configuration), race.namespace)
    unknown = Job.of(race.study.id, race.study.nonce, BASELINE_SEED, 0, 0, 1)
    wrong = Job(race.study.id, race.study.nonce, 3, 9, 0, 1, unknown.name)
    executor = executor_of(race, api)
    assert executor.submit(wrong)
    assert not executor_of(race, api).submit(wrong)  # adopted
    race.wait(lambda: not executor.states()[wrong.name].running, 120)
    assert "rung (9) must be" in executor.last_line(wrong.name)
    # Twice as fast, so that what it waits for is asked for soon.
    hasty = executor_of(race, api, lambda: 2 * time.monotonic(), service_account="nobody")
    refused = Job.of(race.study.id, race.study.nonce, 1, 0, 0, 1)
    hasty.submit(refused)
    race.wait(lambda: "nobody" in hasty.states()[refused.name].waits_for, 60)
    hasty.cancel(refused.name)


def test_a_trainers_account_may_do_nothing_that_not_everybody_may(race: Race) -> None:
    def rights(service_account: str) -> list[str]:
        name = f"system:serviceaccount:{race.namespace}:{service_account}"
        groups = ("system:serviceaccounts", "system:authenticated")
        words = [word for group in groups for word in ("--as-group", group)]
        listed = race.cluster.run(
            "auth", "can-i", "--list", "-n", race.namespace, "--as", name, *words
        )
        return sorted(listed.splitlines())

    assert rights("liverseg-trainer") == rights("no-such-account")
    assert rights("liverseg-controller") != rights("no-such-account")


def test_pods_that_are_not_restricted_are_refused_here(race: Race) -> None:
    spec = {"containers": [{"name": "c", "image": race.cluster.images["trainer"]}]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "loose", "namespace": race.namespace},
        "spec": spec,
    }
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        race.cluster.apply([pod])

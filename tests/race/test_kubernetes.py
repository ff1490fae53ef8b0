"""The Kubernetes executor, against an API server of the tests' own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from liverseg.errors import PlatformError, SettingsError, StudyError
from liverseg.platform.kubernetes_api import KubernetesApi
from liverseg.platform.pod_settings import PodSettings
from liverseg.race.executors.kubernetes import KubernetesExecutor
from liverseg.race.executors.port import Executor
from liverseg.race.records.job import Job
from liverseg.race.records.study import Study
from tests.race.executor_contract import ExecutorContract
from tests.race.kubernetes_server import NAMESPACE, KubernetesServer, Refusal, short
from tests.race.rehearsal import DATASET, NONCE, SETTINGS

STORE = "s3://bucket/store"
STUDY = "study1"
JOB = Job.of(STUDY, NONCE, 0, 0, 0, 2)
ROLE = Path(__file__).parents[2] / "manifests" / "base" / "controller-role.yaml"
LOOK = [("list", "jobs"), ("list", "pods")]
Make = Callable[..., KubernetesExecutor]


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    made = KubernetesServer()
    yield made
    made.stop()


@pytest.fixture
def executor_of(server: KubernetesServer) -> Iterator[Make]:
    """Return a function that makes an executor of "study1", as another controller would."""
    clients = []

    def make(
        study: str = STUDY,
        nonce: str = NONCE,
        monotonic: Callable[[], float] = server.clock,
        **pods: Any,
    ) -> KubernetesExecutor:
        configuration = client.Configuration(host=server.host)
        configuration.retries = False
        clients.append(client.ApiClient(configuration))
        api = KubernetesApi(clients[-1], NAMESPACE, monotonic=server.clock)
        settings = PodSettings(**({"image": "trainer@sha256:1"} | pods))
        opened = Study(study, SETTINGS, DATASET, nonce)
        return KubernetesExecutor(api, STORE, opened, settings, monotonic=monotonic)

    yield make
    for made in clients:
        made.rest_client.pool_manager.clear()
        made.close()


class TestKubernetesExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def _on_a_server(self, server: KubernetesServer, executor_of: Make) -> None:
        self.server, self.of = server, executor_of

    def make(self) -> Executor:
        return self.of()

    def pass_time(self, executor: Executor) -> None:
        self.server.sleep(1.0)


def test_a_look_is_one_list_of_jobs_and_one_of_pods_however_many_there_are(
    server: KubernetesServer, executor_of: Make
) -> None:
    executor, another = executor_of(), executor_of("another")
    for seed in range(20):
        executor.submit(Job.of(STUDY, NONCE, seed, 0, 0, 2))
        another.submit(Job.of("another", NONCE, seed, 0, 0, 2))
    server.sleep(2)
    server.requests.clear()
    assert len(executor.states()) == 20
    assert server.requests == LOOK


def test_a_list_is_read_in_pages_and_from_the_start_when_one_has_expired(
    server: KubernetesServer, executor_of: Make
) -> None:
    executor = executor_of()
    for seed in range(20):
        executor.submit(Job.of(STUDY, NONCE, seed, 0, 0, 2))
    server.page, server.expired = 7, 1
    server.requests.clear()
    assert len(executor.states()) == 20
    # Two pages, the second of which has expired, and three.
    assert server.asked("list", "jobs") == 5


def test_what_was_listed_before_a_page_expired_may_be_gone(
    server: KubernetesServer, executor_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor, answer = executor_of(), server.answer
    for seed in range(3):
        executor.submit(Job.of(STUDY, NONCE, seed, 0, 0, 2))
    executor.states()
    server.page, server.expired = 2, 1

    def deleting(*asked: Any) -> object:
        try:
            return answer(*asked)
        except Refusal:
            del server.jobs[JOB.name]
            raise

    monkeypatch.setattr(server, "answer", deleting)
    state = executor.states()[JOB.name]
    assert (state.running, state.message) == (False, "its Job was deleted")


def test_the_last_line_of_a_trainer_that_failed_is_read_only_when_it_is_asked_for(
    server: KubernetesServer, executor_of: Make
) -> None:
    def wrong(_args: list[str]):
        yield 1.0
        return 2

    server.program = wrong
    server.logs[JOB.name] = "starts\nrung (9) must be in 0 .. 2\n\n"
    executor = executor_of()
    executor.submit(JOB)
    server.sleep(10)
    server.requests.clear()
    state = executor.states()[JOB.name]
    assert state.exit_code == 2
    assert state.message.startswith("Job has reached the specified backoff limit; pod ")
    assert server.requests == LOOK
    assert executor.last_line(JOB.name) == "rung (9) must be in 0 .. 2"
    assert server.requests == [*LOOK, ("get", "pods/log")]


def test_a_trainer_that_failed_before_it_began_has_no_log_and_is_reported_all_the_same(
    server: KubernetesServer, executor_of: Make
) -> None:
    error = {"exitCode": 128, "reason": "StartError", "message": "exec: liverseg: not found"}
    server.stuck = {"phase": "Failed", "containerStatuses": [{"state": {"terminated": error}}]}
    executor = executor_of()
    executor.submit(JOB)
    server.sleep(10)
    state = executor.states()[JOB.name]
    assert (state.running, executor.last_line(JOB.name)) == (False, "")
    assert server.asked("get", "pods/log") == 1
    assert state.message.startswith("StartError: exec: liverseg: not found; Job has reached")


def test_another_controller_finds_the_jobs_and_refuses_those_that_differ(
    server: KubernetesServer, executor_of: Make
) -> None:
    assert executor_of().submit(JOB)
    later = executor_of()
    assert not later.submit(JOB)
    assert later.states()[JOB.name].running
    with pytest.raises(StudyError, match=r"exists in namespace research .*: image is .* delete it"):
        executor_of(image="trainer@sha256:2").submit(JOB)


def test_a_job_that_was_made_anew_under_the_same_name_is_not_deleted(
    server: KubernetesServer, executor_of: Make
) -> None:
    executor = executor_of()
    executor.submit(JOB)
    server.jobs[JOB.name]["metadata"]["uid"] = "another one's"
    executor.cancel(JOB.name)
    assert JOB.name in server.jobs


def test_a_deleted_job_has_ended_and_its_name_is_not_used_again(
    server: KubernetesServer, executor_of: Make
) -> None:
    executor = executor_of()
    executor.submit(JOB)
    server.sleep(2)
    executor.states()
    server.answer(
        "DELETE",
        f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{JOB.name}",
        {},
        b'{"propagationPolicy": "Background"}',
    )
    assert executor.states()[JOB.name].running  # it saves
    server.sleep(5)
    state = executor.states()[JOB.name]
    assert (state.running, state.exit_code, state.message) == (False, -15, "its Job was deleted")
    assert not executor.submit(JOB)


def test_a_pod_that_was_deleted_was_asked_to_end(
    server: KubernetesServer, executor_of: Make
) -> None:
    executor = executor_of()
    executor.submit(JOB)
    server.sleep(2)
    server.delete_pod(JOB.name)
    assert executor.states()[JOB.name].running
    server.sleep(5)
    state = executor.states()[JOB.name]
    assert (state.running, state.exit_code) == (False, -15)
    assert "its pod was deleted" in state.message


def test_a_pod_that_saves_is_not_cut_off_for_a_controller_whose_clock_is_hours_ahead(
    server: KubernetesServer, executor_of: Make
) -> None:
    executor = executor_of(monotonic=lambda: server.now + 7200)
    executor.submit(JOB)
    server.sleep(2)
    server.delete_pod(JOB.name)
    assert executor.states()[JOB.name].running
    server.sleep(1)
    assert executor.states()[JOB.name].running


def test_a_pod_that_outlives_its_grace_period_by_a_minute_is_cut_off(
    server: KubernetesServer, executor_of: Make
) -> None:
    executor = executor_of(grace_seconds=30)
    executor.submit(JOB)
    server.sleep(2)
    server.delete_pod(JOB.name)
    server.lose_node(JOB.name)
    server.sleep(1000)
    # It was deleted long ago, but how long by this process's clock is not known.
    assert executor.states()[JOB.name].running
    server.sleep(90)
    assert executor.states()[JOB.name].running
    server.sleep(1)
    state = executor.states()[JOB.name]
    assert (state.running, state.exit_code) == (False, -15)
    assert "does not answer" in state.message
    # Its node is not asked for a log.
    assert (executor.last_line(JOB.name), server.asked("get", "pods/log")) == ("", 0)
    # What is recorded of its end is not changed by what the node says when it comes back.
    server.return_node(JOB.name, 0)
    assert executor.states()[JOB.name] == state
    server.sleep(10)
    assert executor.states()[JOB.name] == state


@pytest.mark.parametrize(
    ("verb", "resource", "action"),
    [
        ("create", "jobs", "create batch/v1 jobs"),
        ("list", "jobs", "list batch/v1 jobs"),
        ("list", "pods", "list pods"),
        ("get", "pods/log", "get pods/log"),
        ("list", "events", "list events"),
        ("delete", "jobs", "delete batch/v1 jobs"),
        ("get", "jobs", "get batch/v1 jobs"),
    ],
)
def test_a_right_that_is_missing_is_an_error_at_once_that_names_it(
    server: KubernetesServer, executor_of: Make, verb: str, resource: str, action: str
) -> None:
    server.denied.add((verb, resource))
    with pytest.raises(SettingsError) as caught:
        everything_a_controller_does(server, executor_of)
    message = str(caught.value)
    assert f"permission denied to {action} in namespace research (403)" in message
    assert f'liverseg-controller" cannot {verb} resource "{resource}"' in message
    assert "(RoleBinding liverseg-controller," in message


def test_a_controller_asks_for_what_its_role_grants_and_for_nothing_else(
    server: KubernetesServer, executor_of: Make
) -> None:
    everything_a_controller_does(server, executor_of)
    granted = {
        (verb, resource)
        for rule in next(yaml.safe_load_all(ROLE.read_text()))["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert set(server.requests) == granted


def everything_a_controller_does(server: KubernetesServer, executor_of: Make) -> None:
    def fails(_args: list[str]):
        yield 1.0
        return 1

    server.program = fails
    executor = executor_of()
    executor.submit(JOB)
    executor_of().submit(JOB)
    server.sleep(5)
    executor.states()
    executor.last_line(JOB.name)
    server.forbidden = "exceeded quota: liverseg"
    waiting = Job.of(STUDY, NONCE, 1, 0, 0, 2)
    executor.submit(waiting)
    executor.states()
    server.sleep(30)
    assert "exceeded quota" in executor.states()[waiting.name].waits_for
    executor.cancel(waiting.name)


def test_a_token_that_nobody_knows_is_an_error_at_once(
    server: KubernetesServer, executor_of: Make
) -> None:
    server.unknown = True
    with pytest.raises(SettingsError, match=r"list batch/v1 jobs .*\(401\): Unauthorized; .*KUBEC"):
        executor_of().states()


def test_a_job_that_a_quota_does_not_admit_is_reported_in_its_own_words(
    server: KubernetesServer, executor_of: Make
) -> None:
    message = f'jobs.batch "{JOB.name}" is forbidden: exceeded quota: team, requested: count/jobs=1'
    server.refusals = [Refusal(403, message)]
    with pytest.raises(SettingsError, match=r"rejected .*exceeded quota: team") as caught:
        executor_of().submit(JOB)
    assert "RoleBinding" not in str(caught.value)


def test_a_label_that_kubernetes_does_not_accept_is_a_setting_that_is_wrong(
    server: KubernetesServer, executor_of: Make
) -> None:
    with pytest.raises(SettingsError, match=r"rejected .*\(422\): .*metadata.labels"):
        executor_of(labels={"team": "liver group"}).submit(JOB)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_cannot_answer_now_is_away(
    server: KubernetesServer, executor_of: Make, status: int
) -> None:
    server.refusals = [Refusal(status, "etcdserver: request timed out")]
    with pytest.raises(PlatformError, match="request timed out"):
        executor_of().states()
    assert dict(executor_of().states()) == {}


def test_a_server_that_has_just_come_back_may_not_know_our_rights_yet(
    server: KubernetesServer, executor_of: Make
) -> None:
    executor = executor_of()
    server.stop()
    with pytest.raises(PlatformError, match="does not answer"):
        executor.states()
    server.start_again()
    server.denied.add(("list", "jobs"))
    server.sleep(30)
    with pytest.raises(PlatformError, match="403"):
        executor.states()
    server.sleep(31)
    with pytest.raises(SettingsError, match="RoleBinding"):
        executor.states()


QUOTA = "exceeded quota: liverseg, requested: requests.cpu=4, used: requests.cpu=64, limited: 64"


def waits_for(server: KubernetesServer, executor: Executor, seconds: float) -> str:
    executor.submit(JOB)
    executor.states()
    server.sleep(seconds)
    state = executor.states()[JOB.name]
    assert state.running
    return state.waits_for


def test_a_job_whose_pods_cannot_be_created_says_why(
    server: KubernetesServer, executor_of: Make
) -> None:
    server.forbidden, executor = QUOTA, executor_of()
    assert waits_for(server, executor, 1.0) == "its pod has not been created"
    assert server.asked("list", "events") == 0
    reason = waits_for(server, executor, 20.0)
    # Without the pod's name, so that it is the same for all.
    assert reason == f"FailedCreate: Error creating: pods is forbidden: {QUOTA}"
    server.forbidden = ""
    server.sleep(2)
    assert executor.states()[JOB.name].waits_for == ""


def test_a_volume_that_cannot_be_mounted_is_reported_from_the_pods_events(
    server: KubernetesServer, executor_of: Make
) -> None:
    server.stuck, executor = {}, executor_of()
    assert waits_for(server, executor, 1.0) == "its pod has not started"
    (pod,) = server.pods
    server.event("Pod", pod, "Scheduled", "Successfully assigned")
    server.sleep(5)
    message = 'MountVolume.SetUp failed for volume "ca": configmap "store-ca" not found'
    server.event("Pod", pod, "FailedMount", message)
    assert waits_for(server, executor, 20.0) == f"FailedMount: {message}"


def test_a_job_that_waits_without_any_event_still_has_a_reason(
    server: KubernetesServer, executor_of: Make
) -> None:
    server.forbidden, executor = QUOTA, executor_of()
    executor.submit(JOB)
    executor.states()
    server.sleep(100)
    server.events.clear()
    assert executor.states()[JOB.name].waits_for == "its pod has not been created"


def test_a_reason_that_the_pod_gives_itself_costs_no_request(
    server: KubernetesServer, executor_of: Make
) -> None:
    missing = {"reason": "CreateContainerConfigError", "message": 'secret "liverseg-store" not'}
    server.stuck = {"containerStatuses": [{"state": {"waiting": missing}}]}
    reason = waits_for(server, executor_of(), 100.0)
    assert reason == 'CreateContainerConfigError: secret "liverseg-store" not'
    assert server.asked("list", "events") == 0


def test_the_events_of_many_jobs_are_asked_for_a_few_at_a_time_and_eventually_all(
    server: KubernetesServer, executor_of: Make
) -> None:
    server.forbidden, executor = QUOTA, executor_of()
    for seed in range(40):
        executor.submit(Job.of(STUDY, NONCE, seed, 0, 0, 2))
    executor.states()
    server.sleep(20)
    # Those that nobody has asked for come before those whose reason may have changed meanwhile.
    for look in range(1, 9):
        states = executor.states()
        assert server.asked("list", "events") == 5 * look
        server.sleep(10)
    assert all(QUOTA in state.waits_for for state in states.values())
    server.forbidden = "exceeded quota: another"
    server.sleep(60)
    executor.states()
    assert server.asked("list", "events") == 45


def test_a_reason_is_forgotten_when_its_job_goes_further(
    server: KubernetesServer, executor_of: Make
) -> None:
    server.forbidden, executor = QUOTA, executor_of()
    assert QUOTA in waits_for(server, executor, 30.0)
    server.forbidden, server.stuck = "", {}
    server.sleep(1)
    assert executor.states()[JOB.name].waits_for == "its pod has not started"


def test_a_job_in_a_queue_gets_its_pod_when_it_is_let_in(
    server: KubernetesServer, executor_of: Make
) -> None:
    executor = executor_of(queue="gpus")
    assert "queue has not admitted it" in waits_for(server, executor, 100.0)
    assert server.asked("list", "events") == 0
    server.suspend(JOB.name, False)
    server.sleep(2)
    state = executor.states()[JOB.name]
    assert (state.waits_for, state.suspended) == ("", False)


@pytest.mark.slow
@pytest.mark.parametrize("namespace", ["", NAMESPACE])
def test_a_cluster_is_found_by_its_kubeconfig_and_a_tasks_workflow_owns_its_jobs(
    server: KubernetesServer, tmp_path: Path, namespace: str
) -> None:
    context = {"cluster": "c", "user": "u"} | ({} if namespace else {"namespace": NAMESPACE})
    written = {
        "current-context": "k",
        "clusters": [{"name": "c", "cluster": {"server": server.host}}],
        "users": [{"name": "u", "user": {"token": "a-token"}}],
        "contexts": [{"name": "k", "context": context}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(written))
    owners = [
        {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "0"},
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run", "uid": "1"},
    ]
    server.pods["task"] = {"metadata": {"name": "task", "ownerReferences": owners}}
    code = (
        "import json\nfrom liverseg.platform.kubernetes_api import connect\n"
        f"api = connect({namespace!r})\n"
        "print(json.dumps([api.namespace, api.workflow_of('task'), api.workflow_of('absent')]))"
    )
    environment = {name: v for name, v in os.environ.items() if not name.startswith("KUBERNETES_")}
    environment["KUBECONFIG"] = str(tmp_path / "config")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [NAMESPACE, owners[1], None]


@pytest.mark.slow
def test_without_a_cluster_the_message_says_what_to_set(tmp_path: Path) -> None:
    code = "from liverseg.platform.kubernetes_api import connect\nconnect()"
    environment = {name: v for name, v in os.environ.items() if not name.startswith("KUBERNETES_")}
    environment["KUBECONFIG"] = str(tmp_path / "absent")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "SettingsError: no cluster: " in done.stderr
    assert "set KUBECONFIG, or run here with --executor process" in done.stderr


def test_the_pod_runs_the_arguments_of_its_attempt(
    server: KubernetesServer, executor_of: Make
) -> None:
    given: list[list[str]] = []

    def program(args: list[str]):
        given.append(args)
        return short(args)

    server.program = program
    executor_of().submit(JOB)
    server.sleep(2)
    assert given[0][:3] == ["train", f"--store={STORE}", f"--study={STUDY}"]


def test_the_same_study_in_two_stores_runs_in_one_namespace(
    server: KubernetesServer, executor_of: Make
) -> None:
    executor, another = executor_of(), executor_of(nonce="ffffffff")
    theirs = Job.of(STUDY, "ffffffff", 0, 0, 0, 2)
    assert executor.submit(JOB)
    assert another.submit(theirs)
    assert set(executor.states()) == {JOB.name}
    assert set(another.states()) == {theirs.name}
    executor.cancel(theirs.name)
    assert set(server.jobs) == {JOB.name, theirs.name}

"""What goes wrong on a cluster changes neither the winner nor what the ledger adds up to."""

import json
import os
from collections.abc import Callable

import pytest

from liverseg.race.records.snapshot import SnapshotReader
from liverseg.storage import bundle
from tests.cluster.cluster import FOUR, Race
from tests.cluster.faults import FAULTS, Fault

Outcome = tuple[list[list[int]], str]
CLEAN_ATTEMPTS = 4 + 2 + 1
ON_TEST_CLUSTER = "TEST_CLUSTER" in os.environ


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault" in metafunc.fixturenames:
        chosen = [f for f in FAULTS if ON_TEST_CLUSTER or not f.of_a_node]
        if metafunc.config.getoption("--faults") == "one":
            chosen = chosen[:1]
        metafunc.parametrize("fault", chosen, ids=lambda fault: fault.name.replace(" ", "-"))


def test_a_fault_changes_no_result(
    fault: Fault, race_of: Callable[..., Race], four: Outcome
) -> None:
    race = race_of(FOUR)
    race.start()
    fault.make(race)
    status = race.finish(
        "liverseg-study-2" if "two controllers" in fault.name else "liverseg-study"
    )
    assert [len(rung["seeds"]) for rung in status["rungs"]] == [4, 2, 1]
    race.check(four)
    assert race.monitor.wrong == []
    assert (race.attempts() > CLEAN_ATTEMPTS) == fault.another_attempt


WORKFLOWS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "workflows.argoproj.io"},
    "spec": {
        "group": "argoproj.io",
        "scope": "Namespaced",
        "names": {"kind": "Workflow", "plural": "workflows", "singular": "workflow"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


@pytest.fixture
def all_faults(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--faults") != "all":
        pytest.skip("FAULTS=all runs it")


@pytest.mark.usefixtures("all_faults")
def test_a_second_controller_waits_and_takes_over_within_90_s_of_the_first_ones_death(
    race_of: Callable[..., Race], four: Outcome
) -> None:
    race = race_of(FOUR)
    cluster = race.cluster
    race.start()
    race.a_trainer_at_work()
    first = race.heartbeat()
    race.start("liverseg-study-2")
    words = ("logs", "job/liverseg-study-2", "-n", race.namespace)
    race.wait(lambda: first.owner in cluster.run(*words, check=False), 120)
    assert race.heartbeat().owner == first.owner
    # Its pod gets SIGKILL at once: it releases nothing.
    cluster.run("delete", "job", "liverseg-study", "-n", race.namespace, "--cascade=orphan")
    pod = first.owner.rsplit("-", 2)[0]
    cluster.run("delete", "pod", pod, "-n", race.namespace, "--force", "--grace-period=0")
    race.wait(lambda: race.heartbeat().generation == first.generation + 1, 90)
    assert not race.heartbeat().owner.startswith(pod)
    race.finish("liverseg-study-2")
    race.check(four)
    assert race.monitor.wrong == []
    assert race.attempts() == CLEAN_ATTEMPTS


@pytest.mark.usefixtures("all_faults")
def test_with_its_workflow_deleted_no_pod_is_left_and_a_new_controller_ends_the_race(
    race_of: Callable[..., Race], four: Outcome
) -> None:
    race = race_of(FOUR)
    cluster = race.cluster
    if not cluster.run("get", "crd", "workflows.argoproj.io", "--ignore-not-found"):
        cluster.apply([WORKFLOWS])
        cluster.run("wait", "--for=condition=Established", "crd/workflows.argoproj.io")
    race.owned_by_a_workflow()
    race.start()
    race.a_trainer_at_work()
    owned = cluster.get("jobs", race.namespace, "app.kubernetes.io/component=trainer")
    owners = [job["metadata"]["ownerReferences"] for job in owned]
    assert all(o[0]["kind"] == "Workflow" and not o[0]["controller"] for o in owners)
    cluster.run("delete", "workflow", "-n", race.namespace, "run", "--cascade=foreground")
    race.wait(lambda: not cluster.get("jobs", race.namespace), 60)
    race.wait(lambda: not cluster.get("pods", race.namespace), 60)
    kept = race.curves()
    assert kept > 0
    race.monitor.stop()
    race.start_again()
    race.finish()
    assert race.curves() >= kept
    race.check(four)


@pytest.mark.usefixtures("all_faults")
def test_without_a_controller_trainers_save_and_end_and_a_new_one_ends_the_race(
    race_of: Callable[..., Race], four: Outcome
) -> None:
    # Long enough that nobody reports within the grace.
    race = race_of(FOUR, orphan_grace=60.0)
    race.start()
    race.a_trainer_at_work()
    race.cluster.run(
        "delete", "job", "-n", race.namespace, "liverseg-study", "--cascade=foreground"
    )
    race.wait(lambda: not race.trainers() and not race.trainers("Pending"), 300)
    spans = list(SnapshotReader(race.store, race.study.id).read().spans.values())
    codes = {span.exit_code for span in spans}
    assert codes <= {0, 76}, json.dumps([str(s) for s in spans])
    for span in spans:
        saved = f"studies/{race.study.id}/checkpoints/{span.seed:04d}/"
        prefix = f"{saved}{span.samples[-1].iteration}-a{span.attempt}/"
        assert bundle.load(race.store, prefix)
    race.start_again()
    race.finish()
    race.check(four)

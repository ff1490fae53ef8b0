"""The form's pod settings are laid over the cluster's in the tasks that race."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from liverseg.steps import tasks
from liverseg.storage.folder import FolderStore
from pipelines.cluster import Cluster
from pipelines.pod_options import parse_config_map_key
from tests.steps.tiny_study import study_in

LIMITS = (1, 0.0, True, False)
BILL = ("", 0.0, "EUR")
Task = Callable[[str, str, tuple[str, str, str, str], Path], object]


def rung(store: str, study: str, where: tuple[str, str, str, str], page: Path) -> object:
    return tasks.rung(store, study, "0", LIMITS, where, BILL, str(page))


def baseline(store: str, study: str, where: tuple[str, str, str, str], page: Path) -> object:
    return tasks.baseline(store, study, LIMITS, where, BILL)


@pytest.mark.parametrize("task", [rung, baseline])
def test_a_task_takes_the_clusters_settings_unless_the_form_gives_others(
    task: Task, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    study = study_in(store)
    for key in store.keys("cases/"):
        store.delete(key)
    for_cluster = json.dumps({"cpu": "many"})

    def exit_code(run: str) -> object:
        where = ("process", "", for_cluster, run)
        with pytest.raises(SystemExit) as ended:
            task(str(tmp_path / "store"), study.id, where, tmp_path / "page.html")
        return ended.value.code

    # The cluster's "many" is no amount of cpu. The form's "2" is, and then the prepared cases are
    # missing, which ends the task before it trains.
    assert exit_code('{"memory": "32Gi"}') == 2
    assert exit_code('{"cpu": "2"}') == 6


@pytest.mark.parametrize(
    ("text", "key"), [("team-ca", "ca.crt"), ("team-ca:bundle.pem", "bundle.pem")]
)
def test_trainers_get_the_private_authority_of_the_tasks(text: str, key: str) -> None:
    pods = json.loads(Cluster(ca=parse_config_map_key(text)).trainer_pods())
    assert pods["ca_config_map"] == {"name": "team-ca", "key": key}
    assert "ca_config_map" not in json.loads(Cluster().trainer_pods())

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from liverseg.race.decide.reconcile import Capacity
from liverseg.race.executors.process import ProcessExecutor
from liverseg.settings import Settings
from liverseg.steps.race import race
from liverseg.storage.folder import FolderStore
from liverseg.storage.s3.credentials import credentials_from
from tests.cluster.cluster import BUCKET, FOUR, SIXTEEN, Cluster, Race, outcome
from tests.steps.tiny_study import study_in


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as slow: a cluster answers when it likes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    credentials = credentials_from(os.environ)
    client = Minio(
        credentials.host,
        credentials.access_key,
        credentials.secret_key,
        secure=credentials.secure,
        region=credentials.region,
    )
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    return Cluster()


@pytest.fixture
def race_of(cluster: Cluster) -> Iterator[Callable[..., Race]]:
    """Return a function that sets up a race; its namespace is deleted after the test."""
    made: list[Race] = []

    def make(settings: Settings, **pods: Any) -> Race:
        new_race = Race(cluster, settings, **pods)
        made.append(new_race)
        new_race.set_up()
        return new_race

    yield make
    for new_race in made:
        new_race.monitor.stop()
        new_race.tear_down()


def _raced_here(folder: Path, settings: Settings) -> tuple[list[list[int]], str]:
    """Run a race with the process executor, undisturbed."""
    store = FolderStore(folder)
    study = study_in(store, settings)
    command = [sys.executable, "-m", "liverseg.cli", "train", "--store", store.url]
    race.run(store, ProcessExecutor(store.work, command), study, "end", Capacity(2, False))
    return outcome(store, study)


@pytest.fixture(scope="session")
def sixteen(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[int]], str]:
    return _raced_here(tmp_path_factory.mktemp("sixteen"), SIXTEEN)


@pytest.fixture(scope="session")
def four(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[int]], str]:
    return _raced_here(tmp_path_factory.mktemp("four"), FOUR)

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from liverseg.errors import PlatformError, SettingsError
from pipelines.cluster import Cluster
from pipelines.compile import CompiledPipeline, compile_to
from pipelines.kfp_client import KfpConnection, Made, Server
from tests.pipelines.kfp_contract import CRON, KfpContract
from tests.pipelines.kfp_server import KfpServer, Refusal

BEARER = "open sesame"
PARAMETERS = {"data": "s3://bucket/data", "store": "s3://bucket/store"}


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith(("KF_PIPELINES_", "KFP_EXISTING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))


@pytest.fixture
def server() -> Iterator[KfpServer]:
    server = KfpServer()
    yield server
    server.stop()


@pytest.fixture
def compiled_pipeline(tmp_path: Path) -> CompiledPipeline:
    return compile_to(tmp_path, Cluster())


class TestInMemory(KfpContract):
    @pytest.fixture
    def connection(self, server: KfpServer) -> KfpConnection:
        return KfpConnection(host=server.host)


class TestWithManyUsers(KfpContract):
    @pytest.fixture
    def connection(self, server: KfpServer) -> KfpConnection:
        server.multi_user = True
        return KfpConnection(host=server.host, namespace="team")


class TestWithSmallPages(KfpContract):
    @pytest.fixture
    def connection(self, server: KfpServer) -> KfpConnection:
        server.page = 1
        for name in ("before", "liverseg-training", "behind"):
            server.add("pipelines", {"display_name": name, "namespace": None})
        return KfpConnection(host=server.host)


@pytest.mark.skipif("KFP_HOST" not in os.environ, reason="KFP_HOST names no KFP API server")
class TestNamed(KfpContract):
    """The server that KFP_HOST names; KFP_NAMESPACE where it has several users."""

    @pytest.fixture
    def connection(self) -> KfpConnection:
        return KfpConnection(
            host=os.environ["KFP_HOST"],
            namespace=os.environ.get("KFP_NAMESPACE"),
            token=os.environ.get("KFP_TOKEN"),
        )


def test_a_token_is_sent_and_its_lack_reported(server: KfpServer, tmp_path: Path) -> None:
    server.token = BEARER
    (tmp_path / "token").write_text(BEARER, encoding="utf-8")
    Server(KfpConnection(host=server.host, token=BEARER))
    Server(KfpConnection(host=server.host, token_file=tmp_path / "token"))
    asked = len(server.requests)
    with pytest.raises(PlatformError, match="401 Unauthenticated; give --existing-token"):
        Server(KfpConnection(host=server.host))
    # kfp itself would ask five times, for half a minute.
    assert len(server.requests) == asked + 1
    assert BEARER not in repr(KfpConnection(token=BEARER))


def test_a_server_of_many_users_wants_to_know_whose_run_it_is(server: KfpServer) -> None:
    server.multi_user = True
    with pytest.raises(SettingsError, match="--namespace"):
        Server(KfpConnection(host=server.host))


def test_a_host_where_nobody_answers_is_named(server: KfpServer) -> None:
    server.stop()
    with pytest.raises(PlatformError, match=rf"{server.host}.*refused"):
        Server(KfpConnection(host=server.host))
    server.start_again()


def test_a_host_that_is_something_else_is_reported(server: KfpServer) -> None:
    with pytest.raises(PlatformError, match="404 Not Found"):
        Server(KfpConnection(host=f"{server.host}/elsewhere"))


@pytest.mark.parametrize("what", ["pipelines", "upload_version"])
def test_somebody_who_uploads_the_same_at_the_same_moment_is_no_error(
    what: str, server: KfpServer, compiled_pipeline: CompiledPipeline
) -> None:
    ours, theirs = (Server(KfpConnection(host=server.host)) for _ in range(2))
    uploads: list[tuple[Made, Made]] = []

    def meanwhile(method: str, path: str) -> None:
        if method == "POST" and path.endswith(what) and not uploads:
            server.before = lambda _method, _path: None
            uploads.append(theirs.upload(compiled_pipeline))

    server.before = meanwhile
    pipeline, version = ours.upload(compiled_pipeline)
    assert (pipeline.id, version.id) == (uploads[0][0].id, uploads[0][1].id)
    assert len(server.held["pipelines"]) == len(server.held["versions"]) == 1
    assert not version.created


def test_a_server_that_refuses_is_quoted(
    server: KfpServer, compiled_pipeline: CompiledPipeline
) -> None:
    ours = Server(KfpConnection(host=server.host))
    server.refusals = [Refusal(500, 13, "the data base is full")]
    with pytest.raises(PlatformError, match="did not upload: 500 the data base is full"):
        ours.upload(compiled_pipeline)


def test_a_run_that_is_over_may_be_started_again(
    server: KfpServer, compiled_pipeline: CompiledPipeline
) -> None:
    ours = Server(KfpConnection(host=server.host))
    uploaded = ours.upload(compiled_pipeline)
    first = ours.submit(*uploaded, PARAMETERS, "mine")
    for state in ("RUNNING", "CANCELING"):
        server.progress(first.id, {"state": state})
        ours.look(first.id, {})
        assert ours.submit(*uploaded, PARAMETERS, "mine") == Made(first.id, False)
    server.progress(first.id, {"state": "FAILED"})
    ours.look(first.id, {})
    second = ours.submit(*uploaded, PARAMETERS, "mine")
    assert second.created
    assert second.id != first.id


def test_a_schedule_that_somebody_switched_off_or_doubled_is_put_right(
    server: KfpServer, compiled_pipeline: CompiledPipeline
) -> None:
    ours = Server(KfpConnection(host=server.host))
    words = (*ours.upload(compiled_pipeline), PARAMETERS, "mine", "nightly", CRON)
    first = ours.schedule(*words)
    server.held["recurringruns"][0]["mode"] = "DISABLE"
    second = ours.schedule(*words)
    assert second.created
    server.held["recurringruns"].append(server.held["recurringruns"][0] | {"recurring_run_id": "x"})
    assert ours.schedule(*words) == Made(second.id, False)
    assert [r["recurring_run_id"] for r in server.held["recurringruns"]] == [second.id]
    assert first.id != second.id


def test_only_our_own_tasks_are_reported_by_the_names_of_the_ui(
    server: KfpServer, compiled_pipeline: CompiledPipeline
) -> None:
    ours = Server(KfpConnection(host=server.host))
    run = ours.submit(*ours.upload(compiled_pipeline), PARAMETERS, "mine")
    names = ("root-driver", "scan-driver", "scan", "rung-2", "executor", "summary", "for-loop-2")
    details = [{"display_name": n, "state": "SUCCEEDED"} for n in names]
    server.progress(run.id, {"state": "RUNNING", "run_details": {"task_details": details}})
    state = ours.look(run.id, compiled_pipeline.tasks)
    assert set(state.tasks) == {"scan", "rung 1", "summary"}

"""The Job that makes the bucket, against real S3 servers."""

import importlib.util
from collections.abc import Iterator
from types import ModuleType

import pytest

from liverseg.storage.s3.credentials import credentials_from
from tests.manifests.overlays import MANIFESTS
from tests.s3_server import KINDS, S3Server


@pytest.fixture(scope="module", params=KINDS)
def server(request, tmp_path_factory) -> Iterator[S3Server]:
    server = S3Server(request.param, tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def buckets() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "buckets", MANIFESTS / "components" / "minio" / "buckets.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_bucket_is_made_once_and_the_rule_is_there_where_the_server_takes_it(server, buckets):
    credentials, client = credentials_from(server.environment), server.client()
    ruled = buckets.make_bucket(credentials, "made-by-a-job")
    assert client.bucket_exists("made-by-a-job")
    assert buckets.make_bucket(credentials, "made-by-a-job") is ruled
    if ruled:
        (rule,) = client.get_bucket_lifecycle("made-by-a-job").rules
        assert rule.abort_incomplete_multipart_upload.days_after_initiation == 1
        client.delete_bucket_lifecycle("made-by-a-job")
    client.remove_bucket("made-by-a-job")


def test_a_wrong_key_is_not_taken_for_a_rule_that_is_unknown(server, buckets):
    credentials = credentials_from(
        server.environment | {"AWS_SECRET_ACCESS_KEY": "somebody-else-s-key"}
    )
    with pytest.raises(buckets.S3Error):
        buckets.make_bucket(credentials, "made-by-a-job")

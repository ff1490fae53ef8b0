import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3_server import KINDS, S3Server
from tests.storage.faulty_proxy import FaultyProxy
from tests.storage.web_page import answering, make_certificate


@pytest.fixture(scope="session", params=KINDS)
def s3_server(request, tmp_path_factory) -> Iterator[S3Server]:
    """A real S3 server; the tests are run with each kind there is."""
    server = S3Server(request.param, tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def proxy(s3_server) -> Iterator[FaultyProxy]:
    if not s3_server.endpoint.startswith("http://"):
        pytest.skip("faults are put between client and server, which https does not allow")
    with FaultyProxy(s3_server.endpoint).running() as running:
        yield running


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@pytest.fixture
def secure_page(certificate: Path) -> Iterator[str]:
    """URL of a server that is no S3 server, with https."""
    with answering(certificate=certificate) as url:
        yield url


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What our log says; a handler of its own, as a task's start_log() takes caplog's away."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    log = logging.getLogger("liverseg")
    log.addHandler(handler)
    yield said
    log.removeHandler(handler)

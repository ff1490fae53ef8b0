"""The endpoints answer whoever asks, and whoever means ill stops nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from liverseg.telemetry import metrics_server
from liverseg.telemetry.metrics_server import MOST_CONNECTIONS, MetricsServer, serving
from tests.race.rehearsal import Rehearsal


class Counting(Collector):
    """Counts how often it was asked; each answer takes a while, or fails."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    def collect(self) -> Iterator[Metric]:
        self.asked += 1
        time.sleep(0.05)
        if self.error is not None:
            raise self.error
        yield CounterMetricFamily("liverseg_looks", "Looks.", self.asked)


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def server(counting: Counting) -> Iterator[MetricsServer]:
    with MetricsServer(counting, "127.0.0.1", 0, lambda: counting.error is None) as made:
        yield made


def get(server: MetricsServer, path: str = "/metrics", accept: str = "") -> tuple[int, str, str]:
    url = server.url.replace("/metrics", path)
    request = Request(url, headers={"Accept": accept})  # noqa: S310 - our own server
    try:
        with urlopen(request, timeout=30) as response:  # noqa: S310
            return response.status, response.headers["Content-Type"], response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.headers.get("Content-Type", ""), error.read().decode()


def test_text_or_openmetrics_as_the_accept_header_asks(server: MetricsServer) -> None:
    status, kind, text = get(server)
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert "# TYPE liverseg_looks_total counter\n" in text
    prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3"
    status, kind, text = get(server, accept=prometheus)
    assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_health_is_that_of_the_server_and_readiness_that_of_what_it_measures(
    server: MetricsServer, counting: Counting
) -> None:
    assert [get(server, path)[0] for path in ("/healthz", "/readyz", "/other")] == [200, 200, 404]
    counting.error = ValueError("damaged")
    assert [get(server, path)[0] for path in ("/healthz", "/readyz")] == [200, 503]
    status, _, text = get(server)
    assert (status, "ValueError" in text, "damaged" in text) == (500, True, True)


def test_a_hundred_scrapes_at_once_share_one_look(
    server: MetricsServer, counting: Counting
) -> None:
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: get(server), range(100)))
    assert {status for status, *_ in answers} == {200}
    # Of one second each.
    assert counting.asked <= 4


def test_a_look_that_takes_minutes_leaves_connections_for_the_probes(
    server: MetricsServer, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "SHARE_SECONDS", 0.2)
    may_end = threading.Event()
    monkeypatch.setattr(
        counting, "collect", lambda: [*Counting.collect(counting), may_end.wait(30)][:1]
    )
    with ThreadPoolExecutor(MOST_CONNECTIONS) as pool:
        first = pool.submit(get, server)
        while not counting.asked:
            time.sleep(0.01)
        others = [pool.submit(get, server) for _ in range(MOST_CONNECTIONS - 1)]
        assert {other.result()[0] for other in others} == {500}
        assert not first.done()
        assert get(server, "/healthz")[0] == 200
        may_end.set()
        assert first.result()[0] == 200


def test_a_process_without_threads_to_spare_serves_again_once_it_has_some(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            if self.name == "scrape":
                raise RuntimeError("can't start new thread")
            super().start()

    with monkeypatch.context() as patched:
        patched.setattr(metrics_server.threading, "Thread", NoThread)
        for _ in range(MOST_CONNECTIONS + 1):
            with pytest.raises((OSError, HTTPException)):
                get(server, "/healthz")
    assert get(server, "/healthz")[0] == 200


def test_versions_and_escapings_that_a_client_makes_up_cost_nothing(
    server: MetricsServer, counting: Counting
) -> None:
    openmetrics = "application/openmetrics-text"
    for number in range(20):
        for accept in (f"{openmetrics};version=1.0.{number}", f"text/plain;version=1.0.{number}"):
            assert get(server, accept=accept)[0] == 200
    assert counting.asked <= 6


def half_open(server: MetricsServer, number: int, sent: bytes) -> list[socket.socket]:
    connections = []
    for _ in range(number):
        connections.append(socket.create_connection(("127.0.0.1", server.port)))
        connections[-1].send(sent)
    return connections


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nHost: a\r\n"])
def test_half_open_connections_make_room_for_a_scrape(server: MetricsServer, sent: bytes) -> None:
    before = threading.active_count()
    connections = half_open(server, 100, sent or b" ")
    try:
        start = time.monotonic()
        assert get(server)[0] == 200
        # Prometheus waits for ten.
        assert time.monotonic() - start < 8
        assert threading.active_count() <= before + MOST_CONNECTIONS
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.slow
def test_a_client_that_sends_a_byte_now_and_then_is_let_go_of(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "LIFE_SECONDS", 1.0)
    (slow,) = half_open(server, 1, b"GET /metrics HTTP/1.1\r\n")

    def drip() -> None:
        for _ in range(100):
            slow.send(b"a")
            time.sleep(0.1)

    with slow, pytest.raises((BrokenPipeError, ConnectionResetError)):
        drip()


def test_a_race_goes_on_where_its_port_is_in_use(
    server: MetricsServer, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Counting(), "127.0.0.1", server.port):
        rehearsal = Rehearsal()
        rehearsal.run()
    assert f"cannot listen at port {server.port} of 127.0.0.1" in caplog.text


def test_a_hostile_scraper_changes_nothing_in_a_race(server: MetricsServer) -> None:
    undisturbed = Rehearsal()
    undisturbed.run()
    ended = threading.Event()

    def scrape() -> None:
        while not ended.is_set():
            for connection in half_open(server, 3, b"GET"):
                connection.close()
            get(server)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(scrape)
        disturbed = Rehearsal()
        disturbed.run()
        ended.set()
    assert disturbed.store.objects.keys() == undisturbed.store.objects.keys()


def test_the_port_is_free_again_afterwards(counting: Counting) -> None:
    with MetricsServer(counting, "127.0.0.1", 0) as server:
        port = server.port
    with MetricsServer(counting, "127.0.0.1", port) as again:
        assert get(again)[0] == 200

"""What the S3 store does when replies are lost or cut, and the server is away or refuses."""

import threading
from hashlib import sha256
from io import BytesIO
from urllib.parse import unquote

import pytest

from liverseg.errors import IntegrityError, StoreAway
from liverseg.storage.s3.store import PART_BYTES
from tests.s3_server import S3Server
from tests.storage.faulty_proxy import Fault

LARGE = b"".join(n.to_bytes(4, "big") for n in range(PART_BYTES // 2))  # two parts


@pytest.fixture
def store(s3_server, proxy):
    """An empty store whose requests go through the proxy, that are repeated for 20 s."""
    return s3_server.store(proxy.url, outage_seconds=20.0)


def count(proxy, method, part=""):
    return sum(m == method and part in path for m, path in proxy.requests)


def test_a_put_whose_reply_is_lost_is_done(store, proxy, lines):
    proxy.faults.append(Fault("lose", "PUT"))
    store.put("a", b"1")
    assert store.get("a") == b"1"
    assert count(proxy, "PUT") == 2
    assert "reply lost" in lines[0]


def test_a_new_key_whose_reply_is_lost_is_this_calls_own(store, proxy):
    proxy.faults.append(Fault("lose", "PUT"))
    assert store.put_new("a", b"1")
    assert not store.put_new("a", b"2")
    assert store.get("a") == b"1"


def test_a_new_key_is_not_ours_where_another_one_was_faster(store, proxy, s3_server):
    other = s3_server.opened(store.url)
    # The look whether the key exists is over when the other one writes it.
    proxy.faults.append(Fault("refuse", "PUT", meanwhile=lambda: other.put("a", b"other")))
    assert not store.put_new("a", b"mine")
    assert store.get("a") == b"other"


def test_of_two_writers_whose_replies_are_all_lost_exactly_one_gets_true(store, proxy):
    proxy.faults.append(Fault("lose", "PUT", times=2))
    created: dict[bytes, bool] = {}
    threads = [
        threading.Thread(target=lambda b=b: created.update({b: store.put_new("a", b)}))
        for b in (b"1", b"2")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(created.values()) == [False, True]
    assert created[store.get("a")]


def test_a_server_that_ignores_conditions_never_loses_what_was_there_before(
    store, proxy, s3_server
):
    def plain_put(path, headers, body):
        bucket, _, name = unquote(path).lstrip("/").partition("/")
        notes = {k: v for k, v in headers.items() if k.lower().startswith("x-amz-meta-")}
        s3_server.client().put_object(bucket, name, BytesIO(body), len(body), metadata=notes)

    proxy.plain_put = plain_put
    proxy.faults.append(Fault("unconditional", "PUT", times=1000))
    assert store.put_new("a", b"1")
    assert not store.put_new("a", b"2")
    assert store.get("a") == b"1"


def test_a_server_that_refuses_conditions_is_written_to_without(store, proxy):
    proxy.faults.append(Fault("refuse", "PUT", status=501, code="NotImplemented"))
    assert store.put_new("a", b"1")
    assert not store.put_new("a", b"2")
    assert store.get("a") == b"1"


def test_a_conflict_of_two_writers_is_tried_again(store, proxy):
    conflict = "ConditionalRequestConflict"
    proxy.faults.append(Fault("refuse", "PUT", times=2, status=409, code=conflict))
    assert store.put_new("a", b"1")
    assert count(proxy, "PUT") == 3
    assert store.get("a") == b"1"


def test_a_deletion_whose_reply_is_lost_is_done(store, proxy):
    store.put("a", b"")
    proxy.faults.append(Fault("lose", "DELETE"))
    store.delete("a")
    assert store.keys("") == []


def test_a_reply_that_is_cut_off_is_never_taken_for_the_whole(store, proxy):
    data = b"0123456789" * 1000
    store.put("a", data)
    for after in (0, 1, 5000, len(data) - 1):
        proxy.faults.append(Fault("cut", "GET", "/a", after_bytes=after))
        assert store.get("a") == data


def test_a_large_reply_that_is_cut_off_goes_on_where_it_was(store, proxy, tmp_path):
    (tmp_path / "sent").write_bytes(LARGE)
    store.put_file("a", tmp_path / "sent")
    for after in (10_000_000, 20_000_000):
        proxy.faults.append(Fault("cut", "GET", "/a", after_bytes=after))
    store.get_file("a", tmp_path / "received")
    assert (tmp_path / "received").read_bytes() == LARGE
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in proxy.ranges]
    # Of what was received at most one piece of 1 MiB is asked for again.
    assert len(starts) == 2
    assert 8_900_000 < starts[0] <= 10_000_000
    assert starts[0] + 18_900_000 < starts[1] <= 30_000_000


def test_what_is_replaced_while_its_reply_is_cut_off_is_read_anew(store, proxy, s3_server):
    store.put("a", b"old" * 1000)
    other = s3_server.opened(store.url)
    proxy.faults.append(
        Fault("cut", "GET", after_bytes=1500, meanwhile=lambda: other.put("a", b"new" * 1000))
    )
    assert store.get("a") == b"new" * 1000


def test_what_another_program_replaces_meanwhile_is_never_a_mixture(store, proxy, s3_server):
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")

    def put(data):
        s3_server.client().put_object(bucket, f"{prefix}/a", BytesIO(data), len(data))

    put(b"old" * 1_000_000)
    replace = Fault("cut", "GET", after_bytes=2_000_000, meanwhile=lambda: put(b"new" * 1_000_000))
    proxy.faults.append(replace)
    assert store.get("a") == b"new" * 1_000_000
    assert proxy.ranges


def test_a_listing_that_is_cut_off_is_repeated(store, proxy):
    for n in range(20):
        store.put(f"a/{n}", b"")
    proxy.faults.append(Fault("cut", "GET", after_bytes=300))
    assert len(store.keys("a/")) == 20


def test_a_byte_that_was_damaged_on_the_way_is_noticed_and_read_again(store, proxy):
    store.put("a", b"0123456789")
    proxy.faults.append(Fault("damage", "GET", "/a"))
    assert store.get("a") == b"0123456789"


def test_what_lies_damaged_in_the_store_is_refused_with_both_hashes(store, s3_server, tmp_path):
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    notes = {"x-amz-meta-sha256": sha256(b"right").hexdigest()}
    s3_server.client().put_object(bucket, f"{prefix}/a", BytesIO(b"wrong"), 5, metadata=notes)
    for read in (lambda: store.get("a"), lambda: store.get_file("a", tmp_path / "file")):
        with pytest.raises(IntegrityError) as caught:
            read()
        for word in ("'a'", sha256(b"right").hexdigest(), sha256(b"wrong").hexdigest()):
            assert word in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_another_program_has_put_there_can_be_read(store, s3_server):
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    s3_server.client().put_object(bucket, f"{prefix}/a/b", BytesIO(b"plain"), 5)
    s3_server.client().put_object(bucket, f"{prefix}/folder/", BytesIO(b""), 0)
    assert store.get("a/b") == b"plain"
    assert store.keys("") == ["a/b"]


@pytest.mark.parametrize(
    ("method", "part"),
    [("POST", "uploads="), ("PUT", "partNumber=2"), ("POST", "uploadId=")],
    ids=["beginning", "part", "completion"],
)
def test_an_upload_of_many_parts_outlasts_a_lost_reply(store, proxy, tmp_path, method, part):
    (tmp_path / "sent").write_bytes(LARGE)
    proxy.faults.append(Fault("lose", method, part))
    store.put_file("a", tmp_path / "sent")
    assert proxy.faults[0].times == 0
    assert store.get("a") == LARGE


def test_a_server_that_is_busy_for_a_while_is_waited_for_and_reported_in_two_lines(
    store, proxy, lines
):
    proxy.faults.append(Fault("refuse", times=4))
    store.put("a", b"1")
    assert store.get("a") == b"1"
    assert len(lines) == 2
    assert "status 503; waiting for it" in lines[0]
    assert proxy.url in lines[0]
    assert "answers again after" in lines[1]


def test_a_server_that_stays_busy_is_named_with_what_was_wanted(s3_server, proxy):
    store = s3_server.store(proxy.url, outage_seconds=0.3)
    proxy.faults.append(Fault("refuse", times=1000))
    for attempt in (
        lambda: store.put("some/key", b""),
        lambda: store.put_new("some/key", b""),
        lambda: store.get("some/key"),
        lambda: store.keys("some/key"),
        lambda: store.delete("some/key"),
    ):
        with pytest.raises(StoreAway, match="some/key") as caught:
            attempt()
        assert proxy.url in str(caught.value)


@pytest.mark.slow
def test_a_server_that_is_stopped_and_started_again_is_waited_for(tmp_path, s3_server, lines):
    if s3_server.kind == "named":
        pytest.skip("a server that is named is not ours to stop")
    server = S3Server(s3_server.kind, tmp_path)
    server.start()
    try:
        store = server.store(outage_seconds=60.0)
        store.put("a", b"1")
        server.stop()
        again = threading.Timer(1.0, server.start)
        again.start()
        store.put("b", b"2")
        assert store.get("a") == b"1"
        again.join()
    finally:
        server.stop()
    assert "connection refused; waiting for it" in "\n".join(lines)
    assert "answers again" in lines[-1]

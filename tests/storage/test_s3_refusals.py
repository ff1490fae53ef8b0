"""What the S3 store says where no waiting helps: the server, the cause, what to do, no secret."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from liverseg.errors import SettingsError, StoreAway, StoreError
from liverseg.storage.open import open_store
from tests.s3_server import S3Server
from tests.storage.web_page import answering


def test_where_no_server_runs_the_message_says_what_to_look_at(tmp_path):
    server = S3Server("versitygw", tmp_path)
    store = server.opened("s3://bucket/prefix", outage_seconds=0.3)
    with pytest.raises(StoreAway, match=r"connection refused; .*AWS_ENDPOINT_URL") as caught:
        store.get("some/key")
    for word in ("some/key", "s3://bucket/prefix", server.endpoint):
        assert word in str(caught.value)


def test_a_missing_bucket_is_named(s3_server):
    store = s3_server.opened("s3://no-such-bucket-8f3a/prefix")
    for attempt in (
        lambda: store.put("a", b""),
        lambda: store.put_new("a", b""),
        lambda: store.keys(""),
        lambda: store.get("a"),
    ):
        with pytest.raises(StoreError, match=r"no-such-bucket-8f3a.*make the bucket") as caught:
            attempt()
        assert not isinstance(caught.value, StoreAway)


@pytest.mark.parametrize(
    ("variable", "said"),
    [("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"), ("AWS_SECRET_ACCESS_KEY", "AWS_SECRET")],
)
def test_credentials_that_are_wrong_are_named_but_not_shown(s3_server, variable, said):
    server = S3Server(s3_server.kind, s3_server._folder)
    server.environment = {**s3_server.environment, variable: "something-wrong"}
    store = server.store()
    for attempt in (lambda: store.put("a", b""), lambda: store.get("a"), lambda: store.keys("")):
        with pytest.raises(StoreError, match=said) as caught:
            attempt()
        assert not isinstance(caught.value, StoreAway)
        assert "test-secret-key" not in str(caught.value)
        assert "something-wrong" not in str(caught.value)


@pytest.fixture
def page() -> Iterator[str]:
    """URL of a server that is no S3 server."""
    with answering() as url:
        yield url


def test_a_server_that_is_no_s3_server_is_reported_in_a_few_words(tmp_path, page):
    store = S3Server("versitygw", tmp_path).opened("s3://bucket", page)
    for attempt in (lambda: store.get("a"), lambda: store.keys("")):
        with pytest.raises(StoreError, match="is AWS_ENDPOINT_URL right") as caught:
            attempt()
        assert len(str(caught.value)) < 400


class Balancer(BaseHTTPRequestHandler):
    """What stands before servers that are all away."""

    def do_GET(self) -> None:
        self.send_response(502)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>bad gateway")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Log nothing."""


def test_a_balancer_whose_servers_are_away_is_no_wrong_address(tmp_path):
    with answering(Balancer) as url:
        store = S3Server("versitygw", tmp_path).opened("s3://bucket", url, outage_seconds=0.1)
        for attempt in (lambda: store.get("a"), lambda: store.keys("")):
            with pytest.raises(StoreAway, match="502"):
                attempt()


def test_https_where_the_server_speaks_http_is_reported_at_once(tmp_path, page):
    secure = page.replace("http://", "https://")
    store = S3Server("versitygw", tmp_path).opened("s3://bucket", secure)
    with pytest.raises(StoreError, match="no trusted https") as caught:
        store.get("a")
    assert secure in str(caught.value)


@pytest.mark.parametrize(("given", "said"), [(True, "is AWS_ENDPOINT_URL right"), (False, "self")])
def test_a_private_authority_is_trusted_where_aws_ca_bundle_names_it(
    tmp_path, secure_page, certificate, given, said
):
    environment = {
        "AWS_ENDPOINT_URL": secure_page,
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "XDG_CACHE_HOME": str(tmp_path),
    }
    if given:
        environment["AWS_CA_BUNDLE"] = str(certificate)
    # What answers is no S3 server: it is heard once its certificate is trusted.
    with pytest.raises(StoreError, match=said):
        open_store("s3://bucket", environment).get("a")


def test_credentials_in_the_address_are_refused_and_not_shown():
    with pytest.raises(SettingsError, match="AWS_SECRET_ACCESS_KEY") as caught:
        open_store(
            "s3://bucket",
            {
                "AWS_ENDPOINT_URL": "http://me:a-secret@host",
                "AWS_ACCESS_KEY_ID": "me",
                "AWS_SECRET_ACCESS_KEY": "a-secret",
            },
        )
    assert "a-secret" not in str(caught.value)

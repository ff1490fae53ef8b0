"""A store in S3 through a proxy, and the certificates that its https is checked with."""

import base64
import os
import subprocess
from pathlib import Path

import pytest

from liverseg.errors import SettingsError, StoreAway, StoreError
from liverseg.storage.open import open_store
from tests.http_proxy import HttpProxy
from tests.s3_server import S3Server

SERVER = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "a-secret"}


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_everything_goes_through_the_proxy(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # The name is known to the proxy only.
    outside = s3_server.environment | {"AWS_ENDPOINT_URL": "http://s3.internal.example"}
    with HttpProxy(s3_server.endpoint).running() as proxy:
        monkeypatch.setenv(name, proxy.url)
        store = open_store(f"{s3_server.url}/proxied", outside | {"XDG_CACHE_HOME": str(tmp_path)})
        store.put("a/b", b"1")
        assert not store.put_new("a/b", b"2")
        (tmp_path / "large").write_bytes(bytes(20 << 20))  # of two parts
        store.put_file("large", tmp_path / "large")
        assert store.get("a/b") == b"1"
        assert len(store.get("large")) == 20 << 20
        assert store.keys("") == ["a/b", "large"]
        store.delete("a/b")
        assert {url.split("/")[2] for _, url in proxy.seen} == {"s3.internal.example"}


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "127.0.0.0/8", "*"])
def test_no_proxy_is_asked_directly(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    with HttpProxy(None).running() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        environment = s3_server.environment | {"XDG_CACHE_HOME": str(tmp_path)}
        store = open_store(f"{s3_server.url}/direct", environment)
        store.put("a", b"1")
        assert store.get("a") == b"1"
        assert proxy.seen == []


def opened(tmp_path: Path, url: str, **environment: str):
    variables = SERVER | {"AWS_ENDPOINT_URL": url, "XDG_CACHE_HOME": str(tmp_path)}
    return open_store("s3://bucket", variables | environment, outage_seconds=0.1)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_away_is_named_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", "http://me:pass@127.0.0.1:1")
    store = opened(tmp_path, f"{scheme}://s3.internal.example")
    with pytest.raises(StoreAway) as away:
        store.get("a")
    variable = f"{scheme}_proxy".upper()
    assert f"through the proxy http://127.0.0.1:1 ({variable})" in str(away.value)
    assert "the proxy does not connect" in str(away.value)
    assert "pass" not in str(away.value)


def test_a_proxy_that_wants_credentials_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secure_page: str
) -> None:
    wanted = "Basic " + base64.b64encode(b"me:p@ss").decode()
    with HttpProxy(secure_page, wanted).running() as proxy:
        for url, said in (
            (proxy.url, "407"),
            (proxy.url.replace("//", "//me:p%40ss@"), "self.signed"),
        ):
            monkeypatch.setenv("HTTPS_PROXY", url)
            with pytest.raises(StoreError, match=said):
                opened(tmp_path, "https://s3.internal.example").get("a")
    assert set(proxy.seen) == {("CONNECT", "s3.internal.example:443")}


# What answers is no S3 server: it is heard once its certificate is trusted.
HEARD, UNTRUSTED = "is AWS_ENDPOINT_URL right", "self.signed certificate"


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_each_variable_names_the_authorities(
    tmp_path: Path, secure_page: str, certificate: Path, name: str
) -> None:
    with pytest.raises(StoreError, match=HEARD) as heard:
        opened(tmp_path, secure_page, **{name: str(certificate)}).get("a")
    assert UNTRUSTED not in str(heard.value)
    with pytest.raises(SettingsError, match=f"{name} '/absent.pem' is no file of PEM"):
        opened(tmp_path, secure_page, **{name: "/absent.pem"})


def test_a_folder_of_certificates_is_a_bundle(
    tmp_path: Path, secure_page: str, certificate: Path
) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    (folder / "ca.pem").write_bytes(certificate.read_bytes())
    subprocess.run(["openssl", "rehash", folder], check=True)
    with pytest.raises(StoreError, match=HEARD):
        opened(tmp_path, secure_page, REQUESTS_CA_BUNDLE=str(folder)).get("a")


def test_the_first_of_the_variables_counts(
    tmp_path: Path, secure_page: str, certificate: Path
) -> None:
    other = Path(__file__).with_name("no-such-file.pem")
    ours = {"AWS_CA_BUNDLE": str(certificate), "REQUESTS_CA_BUNDLE": str(other)}
    with pytest.raises(StoreError, match=HEARD):
        opened(tmp_path, secure_page, **ours, SSL_CERT_FILE=str(other)).get("a")
    with pytest.raises(SettingsError, match="REQUESTS_CA_BUNDLE"):
        opened(tmp_path, secure_page, REQUESTS_CA_BUNDLE=str(other), SSL_CERT_FILE=str(certificate))
    with pytest.raises(StoreError, match=UNTRUSTED):
        opened(tmp_path, secure_page, AWS_CA_BUNDLE="").get("a")

"""Through which proxy a server is asked, and that the KFP and Kubernetes clients ask it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from liverseg.errors import PlatformError, SettingsError
from liverseg.platform.proxies import Proxy, proxy_for
from pipelines.kfp_client import KfpConnection, Server
from tests.http_proxy import HttpProxy
from tests.pipelines.kfp_server import KfpServer
from tests.race.kubernetes_server import NAMESPACE, KubernetesServer

HTTP, HTTPS = "http://proxy.example.org:3128", "http://secure.example.org:3129"


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def chosen(url: str, **proxies: str) -> str | None:
    proxy = proxy_for(url, proxies)
    return None if proxy is None else proxy.url


def test_the_scheme_of_the_server_chooses_the_proxy() -> None:
    both = {"http": HTTP, "https": HTTPS}
    assert chosen("http://s3.example.org", **both) == HTTP
    assert chosen("https://s3.example.org:9000", **both) == HTTPS
    assert chosen("https://s3.example.org", http=HTTP) is None
    assert chosen("https://s3.example.org", all=HTTP) == HTTP
    assert chosen("https://s3.example.org", all=HTTP, https=HTTPS) == HTTPS
    assert chosen("http://s3.example.org") is None
    assert chosen("http://s3.example.org", http="proxy:3128") == "http://proxy:3128"


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("s3.example.org", "http://s3.example.org"),
        ("S3.Example.org", "http://s3.example.org:9000"),
        ("a.org, s3.example.org", "http://s3.example.org"),
        ("example.org", "http://s3.example.org"),
        (".example.org", "http://s3.example.org"),
        ("s3.example.org:9000", "http://s3.example.org:9000"),
        ("127.0.0.1", "http://127.0.0.1:9000"),
        ("10.0.0.0/8", "http://10.96.0.1"),
        ("192.168.0.0/16,10.96.0.0/12", "http://10.111.255.254:443"),
        ("fd00::/8", "http://[fd00::1]:9000"),
        ("::1", "http://[::1]"),
        ("*", "http://s3.example.org"),
    ],
)
def test_no_proxy_names_what_is_asked_directly(no_proxy: str, url: str) -> None:
    assert chosen(url, http=HTTP) == HTTP
    assert chosen(url, http=HTTP, no=no_proxy) is None


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("example.org", "http://notexample.org"),
        ("s3.example.org:9000", "http://s3.example.org:9001"),
        ("10.0.0.0/8", "http://11.0.0.1"),
        ("10.0.0.0/8", "http://ten.example.org"),
        ("10.0.0.0/33", "http://10.0.0.1"),
        ("", "http://s3.example.org"),
    ],
)
def test_no_proxy_names_nothing_else(no_proxy: str, url: str) -> None:
    assert chosen(url, http=HTTP, no=no_proxy) == HTTP


@pytest.mark.parametrize("url", ["socks5://proxy:1080", "http://", "ftp://me:secret@proxy"])
def test_what_is_no_proxy_is_refused_by_the_variables_name(url: str) -> None:
    with pytest.raises(SettingsError, match=r"HTTPS_PROXY .* http or https proxy") as refused:
        proxy_for("https://s3.example.org", {"https": url})
    assert "secret" not in str(refused.value)


def test_credentials_of_a_proxy_are_kept_but_not_shown() -> None:
    proxy = proxy_for("http://a.org", {"http": "http://me:p%40ss@proxy:3128"})
    assert proxy == Proxy("http://proxy:3128", "HTTP_PROXY", "me:p@ss")
    assert "p@ss" not in f"{proxy} {proxy!r}"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_kfp_is_asked_through_the_proxy(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    server = KfpServer()
    try:
        with HttpProxy(server.host).running() as proxy:
            monkeypatch.setenv(name, proxy.url)
            Server(KfpConnection(host="http://kfp.internal.example"))
            assert proxy.seen
            assert {url.split("/")[2] for _, url in proxy.seen} == {"kfp.internal.example"}
            proxy.seen.clear()
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            Server(KfpConnection(host=server.host))
            assert proxy.seen == []
    finally:
        server.stop()


def test_a_proxy_that_does_not_reach_kfp_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpProxy(None).running() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with pytest.raises(PlatformError, match=rf"through the proxy {proxy.url} \(HTTP_PROXY\)"):
            Server(KfpConnection(host="http://kfp.internal.example"))


def asked_by_kubernetes(kubeconfig: Path, url: str, **environment: str) -> str:
    """Ask the API server of a kubeconfig in a process of its own; return what it prints."""
    written = {
        "current-context": "k",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "a-token"}}],
        "contexts": [{"name": "k", "context": {"cluster": "c", "user": "u"}}],
    }
    kubeconfig.write_text(yaml.safe_dump(written))
    code = (
        "import sys\nfrom liverseg.platform.kubernetes_api import connect\n"
        "print(connect(sys.argv[1]).jobs('a=b'))"
    )
    without = {name: v for name, v in os.environ.items() if not name.startswith("KUBERNETES_")}
    done = subprocess.run(
        [sys.executable, "-c", code, NAMESPACE],
        env=without | {"KUBECONFIG": str(kubeconfig)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_kubernetes_is_asked_through_the_proxy(tmp_path: Path) -> None:
    server, outside = KubernetesServer(), "http://k8s.internal.example"
    try:
        with HttpProxy(server.host, "Basic bWU6cEBzcw==").running() as proxy:
            url = proxy.url.replace("http://", "http://me:p%40ss@")
            said = asked_by_kubernetes(tmp_path / "config", outside, HTTP_PROXY=url)
            assert proxy.seen, said
            assert proxy.seen[0][1].startswith(outside + "/apis/batch/v1/")
            assert said == "[]\n"
            proxy.seen.clear()
            direct = {"HTTP_PROXY": url, "NO_PROXY": "127.0.0.0/8"}
            assert asked_by_kubernetes(tmp_path / "config", server.host, **direct) == "[]\n"
            assert proxy.seen == []
    finally:
        server.stop()

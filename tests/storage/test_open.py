from pathlib import Path

import pytest

from liverseg.errors import SettingsError
from liverseg.storage.open import open_store


def test_a_file_url_is_a_folder():
    assert open_store("file:///data/my%20store").root == Path("/data/my store")


def test_a_plain_path_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_store("/data/50% ?#").root == Path("/data/50% ?#")
    assert open_store("run/store").root == tmp_path / "run" / "store"


def test_opening_makes_no_folder(tmp_path):
    open_store(str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/x", "known: file, s3"),
        ("file://relative/path", "three slashes"),
        ("file://", "three slashes"),
        ("file:///data/a%00b", "NUL"),
        ("", "empty"),
    ],
)
def test_any_other_url_is_refused_and_the_message_says_what_to_give(url, said):
    with pytest.raises(SettingsError, match=said):
        open_store(url)


SERVER = {
    "AWS_ENDPOINT_URL": "http://s3.example.org:9000",
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "a-secret",
    "XDG_CACHE_HOME": "/cache",
}


def test_an_s3_url_is_a_bucket_and_a_prefix():
    store = open_store("s3://bucket/a/b/", SERVER)
    assert store.url == "s3://bucket/a/b"
    assert open_store("s3://bucket", SERVER).url == "s3://bucket"


def test_the_work_folder_of_an_s3_store_is_its_own_on_this_machine():
    urls = ("s3://bucket/a", "s3://bucket/b", "s3://other/a")
    elsewhere = SERVER | {"AWS_ENDPOINT_URL": "https://elsewhere.example.org"}
    folders = {open_store(url, SERVER).work for url in urls} | {open_store(urls[0], elsewhere).work}
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {Path("/cache/liverseg/work")}
    assert open_store("s3://bucket/a/", SERVER).work == open_store("s3://bucket/a", SERVER).work


@pytest.mark.parametrize(
    ("url", "changed", "said"),
    [
        ("s3://bucket", {"AWS_ACCESS_KEY_ID": ""}, "AWS_ACCESS_KEY_ID is not set"),
        ("s3://bucket", {"AWS_SECRET_ACCESS_KEY": ""}, "AWS_SECRET_ACCESS_KEY is not set"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "s3.example.org"}, "AWS_ENDPOINT_URL"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": ""}, "AWS_ENDPOINT_URL is empty"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "http://host/path"}, "AWS_ENDPOINT_URL"),
        ("s3://Bucket_", {}, "Bucket_"),
        ("s3://", {}, "s3://"),
        ("s3://bucket//a", {}, "beginning of a key"),
        ("s3://bucket/../a", {}, "beginning of a key"),
        ("s3://bucket", {"AWS_CA_BUNDLE": "/absent.pem"}, "AWS_CA_BUNDLE '/absent.pem' is no file"),
        ("s3://bucket", {"AWS_CA_BUNDLE": __file__}, "is no file of PEM certificates"),
    ],
)
def test_an_s3_store_that_cannot_be_opened_says_what_is_wrong(url, changed, said):
    with pytest.raises(SettingsError, match=said) as caught:
        open_store(url, SERVER | changed)
    assert "a-secret" not in str(caught.value)


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="is a file"):
        open_store(str(tmp_path / "file"))

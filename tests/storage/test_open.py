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
        ("s3://bucket/prefix", "later version"),
        ("ftp://host/x", "known: file, s3"),
        ("file://relative/path", "three slashes"),
        ("file://", "three slashes"),
        ("", "empty"),
    ],
)
def test_any_other_url_is_refused_and_the_message_says_what_to_give(url, said):
    with pytest.raises(SettingsError, match=said):
        open_store(url)


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="is a file"):
        open_store(str(tmp_path / "file"))

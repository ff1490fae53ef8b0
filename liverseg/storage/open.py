"""The store behind a URL."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from liverseg.errors import SettingsError
from liverseg.storage.folder import FolderStore


def open_store(url: str) -> FolderStore:
    """Return the store at `url`: "file:///absolute/path" or a plain path, which may be relative.

    A folder is made at the first write. Any other kind of URL raises SettingsError.
    """
    if not url:
        raise SettingsError("the store's URL is empty; give a folder or file:///absolute/path")
    scheme, separator, _ = url.partition("://")
    if not separator:
        return _folder(Path(url))
    if scheme == "s3":
        raise SettingsError(
            f"store '{url}': S3 comes with a later version; use a folder or file:///absolute/path"
        )
    if scheme != "file":
        raise SettingsError(f"store '{url}': scheme '{scheme}' is unknown; known: file, s3")
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise SettingsError(
            f"store '{url}': a file URL needs three slashes and an absolute path, as in "
            "file:///data/store"
        )
    # "?" and "#" are ordinary characters of a path.
    return _folder(Path(unquote(url[len("file://") + len(parts.netloc) :])))


def _folder(path: Path) -> FolderStore:
    absolute = path.absolute()
    if absolute.is_file():
        raise SettingsError(f"store '{path}' is a file; a store is a folder")
    return FolderStore(absolute)

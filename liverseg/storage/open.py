"""The store behind a URL."""

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import getproxies_environment

from liverseg.errors import SettingsError
from liverseg.platform.folders import cache_folder
from liverseg.storage.folder import FolderStore
from liverseg.storage.keys import is_key
from liverseg.storage.port import LocatedStore
from liverseg.storage.s3.credentials import credentials_from

FILE_URL = "file://"


def open_store(
    url: str, environment: Mapping[str, str] | None = None, outage_seconds: float | None = None
) -> LocatedStore:
    """Return the store at `url`; nothing is made or asked for before the first use.

    "file:///absolute/path" or a plain path, which may be relative; "s3://bucket/prefix", whose
    server and credentials the AWS_ variables of `environment` name. Else raises SettingsError.
    `outage_seconds` is for how long of an outage requests to a server are repeated; None: two
    minutes.
    """
    if not url:
        raise SettingsError("the store's URL is empty; give a folder or file:///absolute/path")
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _folder(Path(url))
    if scheme == "s3":
        # Tasks and trainers get a URL and nothing else, and a secret may not travel in it, so
        # the credentials are read from the environment of each process.
        variables = os.environ if environment is None else environment
        return _s3(url, rest, variables, outage_seconds)
    if scheme != "file":
        raise SettingsError(f"store '{url}': scheme '{scheme}' is unknown; known: file, s3")
    return _folder(file_url_path(url))


def file_url_path(url: str) -> Path:
    """Return the path of a file or folder that a file:// URL names, else raise SettingsError."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise SettingsError(
            f"'{url}': a file URL needs three slashes and an absolute path, as in "
            "file:///data/store"
        )
    # "?" and "#" are ordinary characters of a path.
    path = unquote_to_bytes(url[len(FILE_URL) + len(parts.netloc) :])
    if b"\0" in path:
        raise SettingsError(f"'{url}': no path has a NUL character (%00)")
    return Path(os.fsdecode(path))


def _folder(path: Path) -> FolderStore:
    absolute = path.absolute()
    if absolute.is_file():
        raise SettingsError(f"store '{path}' is a file; a store is a folder")
    return FolderStore(absolute)


def _s3(
    url: str, rest: str, environment: Mapping[str, str], outage_seconds: float | None
) -> LocatedStore:
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.rstrip("/")
    if prefix and not is_key(prefix):
        raise SettingsError(
            f"store '{url}': '{prefix}' cannot be the beginning of a key; write s3://bucket/a/b, "
            "without empty parts and parts that start with a dot"
        )
    try:
        from liverseg.storage.s3.store import OUTAGE_SECONDS, S3Store
    except ModuleNotFoundError as exc:
        raise SettingsError(
            f"store '{url}' needs the package {exc.name}: pip install 'liverseg[s3]'"
        ) from exc
    credentials = credentials_from(environment, getproxies_environment())
    # One work folder a store: the same bucket and prefix on another server are another one.
    folder = sha256(f"{credentials.endpoint} {bucket}/{prefix}".encode()).hexdigest()[:16]
    seconds = OUTAGE_SECONDS if outage_seconds is None else outage_seconds
    work = cache_folder(environment) / "work" / folder
    return S3Store(bucket, prefix, credentials, work, seconds)

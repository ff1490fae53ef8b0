"""Data on its way to a cluster: a folder of cases pushed to a store, and back.

    blobs/<sha256>         the bytes of a file, once, whatever it is called
    versions/<digest>.json path below the data folder -> {"sha256", "bytes"}
    current.json           {"version": digest}, written last

A version never changes. An interrupted push continues where it stopped: no blob is sent twice, and
nobody sees a version before the store has all its blobs.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from liverseg.errors import CaseError, IntegrityError, NotFound, SettingsError
from liverseg.imaging.stored_file import data_file
from liverseg.settings import Settings, digest
from liverseg.steps.data.case_folder import ScannedCase, case_names
from liverseg.steps.data.scan import SPLIT_FILE, Finding, check_cases
from liverseg.storage import record
from liverseg.storage.bundle import File
from liverseg.storage.files import CHUNK_BYTES, replacing
from liverseg.storage.keys import is_key
from liverseg.storage.memory import MemoryStore
from liverseg.storage.open import FILE_URL, file_url_path, open_store
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import Sha256

Progress = Callable[[str, int, int], None]
CURRENT = "current.json"


@dataclass(frozen=True)
class Current:
    """Which version is the current one."""

    version: Sha256


@dataclass(frozen=True)
class Version:
    """The files of one version."""

    files: dict[str, File]
    """By path below the data folder."""


@dataclass(frozen=True)
class Pushed:
    """What `push` did; `version` is empty where a case cannot be used."""

    version: str
    cases: int
    files: int
    sent: int
    """Files that the store did not have."""
    sent_bytes: int
    findings: list[Finding]
    warnings: list[Finding]


def push(
    folder: Path,
    store: ObjectStore,
    settings: Settings,
    progress: Progress = lambda _what, _done, _total: None,
) -> Pushed:
    """Check every case, send what the store lacks, and make it the store's current version.

    Nothing is sent where a case cannot be used. Other files than a case's own stay where they
    are, but for the folder's `split.json`.

    Args:
        folder: One folder per case, as `liverseg scan` takes it.
        store: Where it goes.
        settings: `preparation` decides what a usable case is.
        progress: Called before each case and each file.
    """
    cases = check_cases(folder, case_names(folder), MemoryStore(), settings, progress)
    findings = [Finding(case.name, *problem) for case in cases for problem in case.problems]
    warnings = [Finding(case.name, *warning) for case in cases for warning in case.warnings]
    if findings:
        return Pushed("", len(cases), 0, 0, 0, findings, warnings)
    paths = [path for case in cases for path in _files(folder, case)]
    paths += [path for path in [folder / SPLIT_FILE] if path.is_file()]
    for path in paths:
        if not path.is_relative_to(folder) or not is_key(path.relative_to(folder).as_posix()):
            raise CaseError(f"'{path}' lies outside its case's folder; move it there")
    in_store = {key.removeprefix("blobs/") for key in store.keys("blobs/")}
    files, sent, sent_bytes = {}, 0, 0
    for number, path in enumerate(paths):
        name = path.relative_to(folder).as_posix()
        progress(f"send {name}", number, len(paths))
        described = _described(path)
        files[name] = described
        if described["sha256"] not in in_store:
            store.put_file(f"blobs/{described['sha256']}", path)
            if _described(path) != described:
                raise CaseError(f"'{path}' changed while it was sent; push again")
            in_store.add(described["sha256"])
            sent, sent_bytes = sent + 1, sent_bytes + described["bytes"]
    progress("send", len(paths), len(paths))
    version = digest(files)
    record.write(store, f"versions/{version}.json", {"files": files})
    record.write(store, CURRENT, {"version": version})
    return Pushed(version, len(cases), len(files), sent, sent_bytes, [], warnings)


def pull(
    store: ObjectStore,
    folder: Path,
    version: str = "",
    names: Collection[str] | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> tuple[int, int]:
    """Write a version's files into a folder; return how many were fetched, and how many it has.

    A file that the folder has already is left alone; if its bytes are not the version's, that is an
    error, and nothing is fetched. A case that was interrupted has none of its new files.

    Args:
        store: Where `push` has put it.
        folder: Created if missing.
        version: Its digest, or the beginning; empty: the current one.
        names: Of the cases wanted, or of files beside them; None: everything.
        progress: Called before each file.

    Raises:
        SettingsError: There is no such version, or other files are in the way; all are named.
        IntegrityError: A blob is not what its name promises.
    """
    files = _version(store, version)
    if names is not None:
        files = {path: file for path, file in files.items() if path.split("/")[0] in names}
    missing = _missing(folder, files)
    done = 0
    for case in dict.fromkeys(name.split("/")[0] for name in missing):
        names = [name for name in missing if name.split("/")[0] == case]
        with replacing([folder / name for name in names]) as temporaries:
            for name, temporary in zip(names, temporaries, strict=True):
                progress(f"fetch {name}", done, len(missing))
                _fetch(store, temporary, missing[name]["sha256"])
                done += 1
    progress("fetch", len(missing), len(missing))
    return len(missing), len(files)


def cases_at(data: str) -> tuple[str, list[str]]:
    """Return where the data lies and the names of its cases, sorted; nothing is fetched.

    Args:
        data: As for `local_folder`. Of a URL without a version the current one is returned, so that
            whoever looks later finds the same files.

    Raises SettingsError where there is no such data or no case in it.
    """
    if "://" not in data:
        return data, case_names(Path(data))
    url, _, version = data.partition("@")
    store = open_store(url)
    whole = version_of(store, version)
    return f"{url}@{whole}", sorted({n.split("/")[0] for n in _version(store, whole) if "/" in n})


def local_folder(data: str, names: Collection[str] | None = None) -> Path:
    """Return the folder of a folder's path, or of a pushed data set's URL after fetching it.

    Args:
        data: A path, or URL or URL@VERSION, as `liverseg dataset push` prints it.
        names: Of the cases to fetch, or of files beside them; None: everything.

    Raises SettingsError where a URL holds no such data set.
    """
    if "://" not in data:
        return Path(data)
    url, _, version = data.partition("@")
    store = open_store(url)
    whole = version_of(store, version)
    folder = store.work / "data" / whole
    pull(store, folder, whole, names)
    return folder


def local_file(path: str) -> Path:
    """Return the path of a file, or of a URL's object after fetching it from a server."""
    if "://" not in path:
        return Path(path)
    if path.startswith(FILE_URL):
        return file_url_path(path)
    url, _, name = path.rpartition("/")
    store = open_store(url)
    target = store.work / "files" / name
    store.get_file(name, target)
    return target


def local_bundle(path: str) -> Path:
    """Return the path of a folder, or of one with all that a server has below a URL, fetched.

    For a few files that belong together, such as a study's model. Raises SettingsError where
    a server has nothing below the URL.
    """
    if "://" not in path:
        return Path(path)
    if path.startswith(FILE_URL):
        return file_url_path(path)
    store = open_store(path)
    keys = store.keys("")
    if not keys:
        raise SettingsError(f"there is nothing at {path}")
    folder = store.work / "files" / sha256(path.encode()).hexdigest()[:16]
    for key in keys:
        store.get_file(key, folder / key)
    return folder


def version_of(store: ObjectStore, version: str = "") -> str:
    """Return the whole digest of a version, or of the current one; SettingsError if unknown."""
    if not version:
        try:
            return record.read(store, CURRENT, Current).version
        except NotFound as error:
            raise SettingsError(
                f"no data set at this URL: {error}; `liverseg dataset push FOLDER URL` makes one"
            ) from error
    keys = store.keys(f"versions/{version}")
    if len(keys) != 1:
        digests = [PurePosixPath(key).stem for key in store.keys("versions/")]
        raise SettingsError(
            f"version '{version}' of the data set names {len(keys)} of: {', '.join(digests) or '-'}"
        )
    return PurePosixPath(keys[0]).stem


def _version(store: ObjectStore, version: str) -> dict[str, dict[str, Any]]:
    key = f"versions/{version_of(store, version)}.json"
    files = {path: asdict(file) for path, file in record.read(store, key, Version).files.items()}
    if f"versions/{digest(files)}.json" != key or not all(is_key(name) for name in files):
        raise IntegrityError(f"'{key}' is damaged: its digest is {digest(files)}")
    return files


def _files(folder: Path, case: ScannedCase) -> list[Path]:
    """Return all files of a case: headers, the voxels beside them, and case.json."""
    volumes = [folder / path for path in case.files.values()]
    paths = [*volumes, folder / case.name / "case.json"]
    paths += [beside for path in volumes if (beside := data_file(path)) is not None]
    return sorted(path for path in set(paths) if path.is_file())


def _described(path: Path) -> dict[str, Any]:
    state, size = sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            state.update(chunk)
            size += len(chunk)
    return {"sha256": state.hexdigest(), "bytes": size}


def _missing(folder: Path, files: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the files that the folder lacks; SettingsError with all that others are in the way."""
    missing, in_the_way = {}, []
    for name, described in files.items():
        path = folder / name
        try:
            if not os.path.lexists(path):
                missing[name] = described
            elif not path.is_file():
                in_the_way.append(f"'{path}' is no file")
            elif (existing := _described(path)) != described:
                in_the_way.append(
                    f"'{path}' is another file (SHA-256 {existing['sha256']}) than the data set's "
                    f"({described['sha256']})"
                )
        except OSError as error:
            in_the_way.append(f"'{path}' cannot be read: {error.strerror}")
    parents = {parent for name in missing for parent in (folder / name).parents}
    in_the_way += [f"'{p}' is no folder" for p in sorted(parents) if p.exists() and not p.is_dir()]
    if in_the_way:
        first = "; ".join(in_the_way[:5]) + ("; ..." if len(in_the_way) > 5 else "")
        raise SettingsError(
            f"{len(in_the_way)} in the way of the data set: {first}; pull into an empty folder"
        )
    return missing


def _fetch(store: ObjectStore, temporary: Path, promised: str) -> None:
    store.get_file(f"blobs/{promised}", temporary)
    fetched = _described(temporary)["sha256"]
    if fetched != promised:
        raise IntegrityError(f"'blobs/{promised}' is damaged: its SHA-256 is {fetched}")

"""Bring the cases of a scanned data set to the network's grid, once, in any number of shards.

A case is kept under the hash of its files. A second run on the same data prepares nothing; one
added case prepares one case.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from liverseg.core.data.dataset import CaseRecord, Dataset
from liverseg.errors import CaseError, SettingsError
from liverseg.race.records.study import require_prepared_alike
from liverseg.settings import Settings
from liverseg.steps.data.case_files import case_key, decode_files, load_files
from liverseg.steps.data.cases import case_prefix
from liverseg.steps.data.preparation import prepare, save
from liverseg.storage import bundle
from liverseg.storage.port import ObjectStore

Progress = Callable[[str, int, int], None]


@dataclass
class PreprocessResult:
    """Names of the cases of one shard."""

    done: list[str] = field(default_factory=list)
    """Prepared now."""
    reused: list[str] = field(default_factory=list)
    """Found prepared in the store."""


def run(
    data: Path,
    store: ObjectStore,
    dataset: Dataset,
    settings: Settings,
    shard: int = 0,
    shards: int = 1,
    progress: Progress = lambda _what, _done, _total: None,
) -> PreprocessResult:
    """Prepare the cases of one shard: of the list sorted by name, every `shards`-th from `shard`.

    Each of their files is read once: the bytes that are compared with the scan's SHA-256 are those
    that are decoded.

    Raises:
        SettingsError: `shard` is not in 0 .. shards - 1, or the scan had other settings.
        CaseError: A file is gone, has changed since the scan, or cannot be used.
    """
    if not 0 <= shard < shards:
        raise SettingsError(f"shard ({shard}) must be in 0 .. shards - 1 ({shards - 1})")
    require_prepared_alike(settings, dataset)
    records = _records(dataset, shard, shards)
    result = PreprocessResult()
    for number, record in enumerate(records):
        progress(f"prepare {record.name}", number, len(records))
        if bundle.exists(store, case_prefix(record.key)):
            result.reused.append(record.name)
        else:
            _prepare_files(data, store, record, settings)
            result.done.append(record.name)
    progress("prepare", len(records), len(records))
    return result


def missing(store: ObjectStore, dataset: Dataset, shard: int, shards: int) -> list[str]:
    """Return the names of a shard's cases that are not prepared yet."""
    return [
        record.name
        for record in _records(dataset, shard, shards)
        if not bundle.exists(store, case_prefix(record.key))
    ]


def _records(dataset: Dataset, shard: int, shards: int) -> list[CaseRecord]:
    return sorted(dataset.cases, key=lambda r: r.name)[shard::shards]


def _prepare_files(data: Path, store: ObjectStore, record: CaseRecord, settings: Settings) -> None:
    files = {name: data / path for name, path in record.files.items()}
    gone = next((path for path in files.values() if not path.is_file()), None)
    if gone is not None:
        raise CaseError(f"case '{record.name}': '{gone}' is gone since the scan; scan again")
    stored, problems = load_files(files)
    for name, file in stored.items():
        if file.sha256 != record.sha256.get(name):
            raise CaseError(
                f"case '{record.name}': '{file.path}' has changed since the scan: its SHA-256 is "
                f"{file.sha256}, the scan saw {record.sha256.get(name)}; scan again"
            )
    key = case_key(record.sha256, settings.preparation)
    if key != record.key:
        raise CaseError(
            f"case '{record.name}': its key is {key}, the scan's {record.key}: another version of "
            "liverseg has scanned it; scan again"
        )
    volumes, undecodable = decode_files(stored)
    if problems + undecodable:
        raise CaseError(f"case '{record.name}': {(problems + undecodable)[0][1]}")
    raters = {name: volumes[name] for name in record.raters}
    try:
        case = prepare(volumes["image"], volumes["liver"], raters, settings)
    except CaseError as error:
        raise CaseError(f"case '{record.name}': {error}") from error
    save(store, record.key, case)

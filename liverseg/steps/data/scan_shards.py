"""The scan of a pipeline: cases are checked and prepared in parallel shards, then collected.

    scans/<id>/scan.json          what is scanned, and with which settings
    scans/<id>/shards/<n>.json    results of the check of every shards-th case from n

`begin` draws the id. No two runs have the same: every run looks at the data itself, and none
collects the records of another. A shard's record is written when all its cases were checked; a
shard that is started again replaces it.
"""

import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from msgspec import Meta

from liverseg.errors import NotFound, StudyError
from liverseg.settings import Settings, from_mapping, to_mapping
from liverseg.steps.data.case_folder import ScannedCase
from liverseg.steps.data.scan import (
    SPLIT_FILE,
    ScanResult,
    Split,
    check_cases,
    chosen_split,
    collect,
)
from liverseg.steps.data.transfer import cases_at, local_folder
from liverseg.storage import record
from liverseg.storage.port import ObjectStore

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Scan:
    """What one run scans, the same in all its tasks."""

    data: str
    """A folder, or URL@VERSION."""
    cases: tuple[str, ...]
    """Their names, sorted."""
    split: Split | None
    settings: dict[str, Any]
    shards: Annotated[int, Meta(ge=1)]


@dataclass(frozen=True)
class Shard:
    """The results of one shard's check."""

    cases: tuple[ScannedCase, ...]


def begin(
    data: str, store: ObjectStore, settings: Settings, split: Path | None, shards: int
) -> str:
    """Find the cases, without reading or fetching them; return the id of the scan.

    Args:
        data: A folder, or URL or URL@VERSION, as `liverseg dataset push` prints it.
        store: Where the scan is recorded.
        settings: Of the study; they are recorded for the other tasks.
        split: As for `scan.run`.
        shards: Number of parts in which the cases are checked.

    Raises:
        SettingsError: As `scan.run`.
    """
    where, names = cases_at(data)
    folder = local_folder(where, [SPLIT_FILE])
    chosen = chosen_split(folder, split, settings)
    scan_id = secrets.token_hex(8)
    scan = Scan(where, tuple(names), chosen, to_mapping(settings), shards)
    record.write(store, _prefix(scan_id) + "scan.json", asdict(scan))
    return scan_id


def load(store: ObjectStore, scan_id: str) -> Scan:
    """Return what is scanned; raises StudyError where it was deleted."""
    return _read(store, scan_id, "scan.json", Scan)


def check_shard(store: ObjectStore, scan_id: str, number: int) -> list[ScannedCase]:
    """Check the cases of one shard, keep what is prepared, and record what was learned.

    A case that cannot be used is no error here: `collect_shards` reports all problems together.
    """
    scan = load(store, scan_id)
    names = scan.cases[number :: scan.shards]
    folder = local_folder(scan.data, names)
    cases = check_cases(folder, names, store, from_mapping(scan.settings), keep=True)
    record.write(store, _prefix(scan_id) + _shard(number), asdict(Shard(tuple(cases))))
    return cases


def collect_shards(store: ObjectStore, scan_id: str, scan: Scan) -> ScanResult:
    """Return what `scan.collect` makes of all shards; raises StudyError where one is missing."""
    shards = [_read(store, scan_id, _shard(n), Shard) for n in range(scan.shards)]
    cases = sorted((case for shard in shards for case in shard.cases), key=lambda c: c.name)
    return collect(cases, scan.split, store, from_mapping(scan.settings))


def _prefix(scan_id: str) -> str:
    return f"scans/{scan_id}/"


def _shard(number: int) -> str:
    return f"shards/{number}.json"


def _read(store: ObjectStore, scan_id: str, name: str, kind: type[Kind]) -> Kind:
    try:
        return record.read(store, _prefix(scan_id) + name, kind)
    except NotFound as error:
        raise StudyError(
            f"scan {scan_id} has no record '{name}': a shard has not ended, or it was deleted; "
            "start a new run, since this one does not look at the data again"
        ) from error

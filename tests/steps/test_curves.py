from pathlib import Path

from liverseg.steps.race import race
from liverseg.steps.report import rung_page
from liverseg.steps.report.curves import read_curves
from liverseg.storage import record
from liverseg.storage.memory import MemoryStore
from tests.race.rehearsal import Rehearsal


class CountingStore(MemoryStore):
    """Counts the requests for validations and for their lists."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__()
        self.objects = objects
        self.gets: list[str] = []
        self.lists = 0

    def get(self, key: str) -> bytes:
        if "curves/" in key:
            self.gets.append(key)
        return super().get(key)

    def keys(self, prefix: str) -> list[str]:
        self.lists += "curves/" in prefix
        return super().keys(prefix)


def page(rehearsal: Rehearsal, rung: int, folder: Path) -> CountingStore:
    """Draw a rung's page; return the store that it was drawn from."""
    rehearsal.run(rung)
    store = CountingStore(rehearsal.store.objects)
    status = race.status(rehearsal.store, rehearsal.study.id)
    rung_page.write(store, rehearsal.study, status, rung, folder / f"{rung}.html")
    return store


def test_a_rungs_page_reads_what_is_new_and_one_document_for_every_rung_before(
    tmp_path: Path,
) -> None:
    rehearsal = Rehearsal()
    validations = f"studies/{rehearsal.study.id}/curves/"
    first, second = (page(rehearsal, rung, tmp_path) for rung in range(2))
    assert all(key.startswith(validations) for key in first.gets)
    assert len(first.gets) == len(set(first.gets)) > 0
    packed = f"studies/{rehearsal.study.id}/packed-curves/0.json"
    assert packed in second.gets
    assert set(second.gets).isdisjoint(first.gets)
    assert (first.lists, second.lists) == (2, 2)
    # A task that is repeated reads what it has packed itself.
    again = page(rehearsal, 1, tmp_path)
    assert [key for key in again.gets if key.startswith(validations)] == []


def test_what_is_packed_is_what_was_recorded(tmp_path: Path) -> None:
    rehearsal = Rehearsal()
    rehearsal.run(0)
    before = read_curves(rehearsal.store, rehearsal.study.id)
    page(rehearsal, 0, tmp_path)
    assert read_curves(rehearsal.store, rehearsal.study.id) == before
    assert sorted(before) == list(range(rehearsal.study.settings.race.seeds))
    for key in rehearsal.store.keys(f"studies/{rehearsal.study.id}/curves/"):
        assert record.read(rehearsal.store, key) in before[int(key.split("/")[3])]


def test_a_document_that_was_deleted_is_not_missed(tmp_path: Path) -> None:
    rehearsal = Rehearsal()
    page(rehearsal, 0, tmp_path)
    before = read_curves(rehearsal.store, rehearsal.study.id)
    rehearsal.store.delete(f"studies/{rehearsal.study.id}/packed-curves/0.json")
    assert read_curves(rehearsal.store, rehearsal.study.id) == before

import os
import signal
from pathlib import Path

import pytest

from liverseg.errors import IntegrityError, SettingsDiffer, SettingsError, StoreError
from liverseg.exit_codes import ExitCode
from liverseg.race.records import facts, lineage, spans
from liverseg.race.records.job import Attempt
from liverseg.race.records.study import Study
from liverseg.steps.report.curves import read_curves
from liverseg.steps.training import train
from liverseg.storage import bundle, record
from liverseg.storage.folder import FolderStore
from liverseg.storage.memory import MemoryStore
from tests.away_store import AwayStore
from tests.race.rehearsal import CURVE_ENTRIES, report_key
from tests.steps.tiny_study import study_in


class Clock:
    """Unix time that passes by `step` seconds at every look."""

    def __init__(self, step: float = 0.0) -> None:
        self.time, self.step = 1000.0, step

    def __call__(self) -> float:
        self.time += self.step
        return self.time


def trained(
    store: MemoryStore, study: Study, rung: int, attempt: int = 0, step: float = 0.0
) -> int:
    return train.run(store, study.id, 1, rung, attempt, orphan_grace=60, now=Clock(step))


def report(store: MemoryStore, study: Study, rung: int, attempt: int = 0) -> dict[str, object]:
    return record.read(store, report_key(store, study.id, rung, 1, attempt))


def test_a_trainer_reports_and_a_pause_at_the_rung_changes_no_weight() -> None:
    interrupted, uninterrupted = MemoryStore(), MemoryStore()
    study = study_in(interrupted)
    assert trained(interrupted, study, 0) == ExitCode.DONE
    assert report(interrupted, study, 0)["iterations"] == 3
    assert trained(interrupted, study, 1) == ExitCode.DONE
    # Never paused, but validated at the same iterations.
    study_in(uninterrupted)
    with_stop = report(interrupted, study, 1)
    assert trained(uninterrupted, study, 0) == ExitCode.DONE
    assert trained(uninterrupted, study, 1) == ExitCode.DONE
    assert with_stop["weights_sha256"] == report(uninterrupted, study, 1)["weights_sha256"]
    curve = read_curves(interrupted, study.id)[1]
    assert [c["iteration"] for c in curve] == [2, 3, 4, 6]
    assert all(set(c["cases"]) == {"validation"} for c in curve)
    assert all(set(c) == set(CURVE_ENTRIES) for c in curve)
    assert [c["rung"] for c in curve] == [0, 0, 1, 1]


def test_a_trainer_of_a_study_that_was_opened_anew_writes_nothing() -> None:
    store = MemoryStore()
    study = study_in(store)
    before = dict(store.objects)
    arguments = (store, study.id, 1, 0, 0)
    ended = train.run(*arguments, nonce="00000000", orphan_grace=60, now=Clock())
    assert ended == ExitCode.ORPHANED
    assert store.objects == before
    ended = train.run(*arguments, nonce=study.nonce, orphan_grace=60, now=Clock())
    assert ended == ExitCode.DONE


@pytest.mark.slow
def test_a_crash_at_any_write_changes_no_weight_and_trains_little_twice() -> None:
    class Crash(Exception):
        pass

    undisturbed = MemoryStore()
    study = study_in(undisturbed)
    trained(undisturbed, study, 1)
    expected = report(undisturbed, study, 1)["weights_sha256"]
    writes = 0
    while True:
        crashed = MemoryStore()
        study_in(crashed)
        left = writes

        def before_write(_number: int, _key: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash

        crashed.before_write = before_write
        try:
            trained(crashed, study, 1)
        except Crash:
            crashed.before_write = lambda _number, _key: None
            assert trained(crashed, study, 1, attempt=1) == ExitCode.DONE
            assert report(crashed, study, 1, 1)["weights_sha256"] == expected, writes
            writes += 1
        else:
            break
    assert writes > 20


def test_sigterm_saves_and_ends_with_75_and_the_next_attempt_goes_on_from_there() -> None:
    store, undisturbed = MemoryStore(), MemoryStore()
    study = study_in(store)
    study_in(undisturbed)

    def terminate(_what: str, done: int, _total: int) -> None:
        if done == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    code = train.run(store, study.id, 1, 1, 0, orphan_grace=60, now=Clock(), progress=terminate)
    assert code == ExitCode.INTERRUPTED
    assert facts.checkpoints(store, study.id, 1)[0].iteration == 5
    seen: list[int] = []
    again = train.run(
        store,
        study.id,
        1,
        1,
        1,
        orphan_grace=60,
        now=Clock(),
        progress=lambda _what, done, _total: seen.append(done),
    )
    assert (again, seen) == (ExitCode.DONE, [6])
    trained(undisturbed, study, 1)
    assert (
        report(store, study, 1, 1)["weights_sha256"]
        == report(undisturbed, study, 1)["weights_sha256"]
    )


def test_a_trainer_whose_controller_is_gone_saves_and_ends_with_76() -> None:
    store = MemoryStore()
    study = study_in(store)
    heartbeat = {"generation": 1, "nonce": study.nonce, "owner": "gone", "time": 900.0}
    record.write(store, facts.heartbeat_key(study.id), heartbeat)
    assert trained(store, study, 1, step=11.0) == ExitCode.ORPHANED
    assert facts.checkpoints(store, study.id, 1)


def test_a_loss_that_is_nan_ends_with_78_and_without_a_report() -> None:
    store = MemoryStore()
    study = study_in(store, factor=float("nan"))
    assert trained(store, study, 0) == ExitCode.NOT_FINITE
    assert not store.keys(f"studies/{study.id}/rungs/0/reports/")


def test_the_span_tells_where_a_process_began_and_how_it_ended() -> None:
    store = MemoryStore()
    study = study_in(store)
    trained(store, study, 0)
    attempt = Attempt(0, 1, 0)
    span = spans.span_of(attempt, spans.events(store, study, attempt))
    assert span is not None
    assert [s.iteration for s in span.samples] == [0, 0, 2, 3, 3]
    assert (span.ended, span.exit_code) == (True, 0)


def test_a_damaged_checkpoint_is_refused_with_both_hashes() -> None:
    store = MemoryStore()
    study = study_in(store)
    trained(store, study, 0)
    saved = facts.checkpoints(store, study.id, 1)[0]
    store.objects[saved.prefix + "state.safetensors"] += b"x"
    with pytest.raises(IntegrityError, match=r"state.safetensors.*SHA-256 is .*promises"):
        trained(store, study, 1)
    assert not store.keys(f"studies/{study.id}/rungs/1/reports/")


def test_a_study_of_another_version_is_refused() -> None:
    store = MemoryStore()
    study = study_in(store)
    spec = record.read(store, facts.spec_key(study.id))
    spec["settings"]["training"]["learning_rate"] = 0.5
    record.write(store, facts.spec_key(study.id), spec)
    with pytest.raises(SettingsDiffer, match="another version"):
        trained(store, study, 0)


def test_a_rung_that_does_not_exist_is_refused() -> None:
    store = MemoryStore()
    study = study_in(store)
    with pytest.raises(SettingsError, match=r"rung \(7\) must be in 0 .. 1"):
        trained(store, study, 7)


def test_a_second_pod_of_one_attempt_ends_with_75_and_writes_nothing() -> None:
    store = MemoryStore()
    study = study_in(store)
    first = {"orphan_grace": 60, "now": Clock(), "pod": "first"}
    assert train.run(store, study.id, 1, 0, 0, **first) == ExitCode.DONE
    before = dict(store.objects)
    assert train.run(store, study.id, 1, 0, 0, **first | {"pod": "second"}) == ExitCode.INTERRUPTED
    assert store.objects == before
    assert train.run(store, study.id, 1, 0, 1, **first | {"pod": "second"}) == ExitCode.DONE


class Outage(AwayStore):
    """A store that answers nobody while it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.away = lambda: self.closed


class Waits:
    """A trainer's clock, which only waiting moves; the store is back after `seconds` of it."""

    def __init__(self, store: Outage, seconds: float) -> None:
        self._store, self._left, self.now = store, seconds, 1000.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._left -= seconds
        if self._left <= 0:
            self._store.closed = False


def close_at(store: Outage, iteration: int):
    def progress(_what: str, done: int, _total: int) -> None:
        store.closed |= done == iteration

    return progress


def test_a_training_continues_while_the_store_is_away_and_loses_nothing(tmp_path: Path) -> None:
    store, undisturbed = Outage(), MemoryStore()
    study = study_in(store)
    calm = study_in(undisturbed)
    waits = Waits(store, 600.0)
    code = train.run(
        store, study.id, 1, 1, 0, orphan_grace=1800, now=waits.clock, sleep=waits.sleep,
        scratch=tmp_path, progress=close_at(store, 1),
    )  # fmt: skip
    assert code == ExitCode.DONE
    # It has waited at its rung alone.
    assert waits.now == 1600.0
    trained(undisturbed, calm, 1)
    assert (
        report(store, study, 1)["weights_sha256"] == report(undisturbed, calm, 1)["weights_sha256"]
    )
    # What was written late is what would have been written at once, with superseded ones removed.
    for kind in ("curves/", "checkpoints/", "rungs/1/reports/"):
        prefix = f"studies/{study.id}/{kind}"
        assert store.keys(prefix) == undisturbed.keys(prefix)
    attempt = Attempt(1, 1, 0)
    late = spans.span_of(attempt, spans.events(store, study, attempt))
    at_once = spans.span_of(attempt, spans.events(undisturbed, calm, attempt))
    assert late is not None
    assert at_once is not None
    # It occupied its GPU while it waited, and for no second longer.
    assert (late.samples[:-1], late.seconds) == (at_once.samples[:-1], 600.0)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_store_that_stays_away_ends_a_trainer_with_76_and_its_work_is_found_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Outage()
    study = study_in(store)
    waits = Waits(store, float("inf"))
    words = {"orphan_grace": 1800, "now": waits.clock, "sleep": waits.sleep, "scratch": tmp_path}
    code = train.run(store, study.id, 1, 1, 0, progress=close_at(store, 1), **words)
    assert code == ExitCode.ORPHANED
    assert 2800 < waits.now < 2820
    assert "the store has been away for 18" in caplog.text
    store.closed = False
    assert lineage.checkpoints(store, study, 1) == []
    seen: list[int] = []
    again = train.run(
        store, study.id, 1, 1, 1, progress=lambda _what, done, _total: seen.append(done), **words
    )
    # On the same machine the next attempt trains nothing anew.
    assert (again, seen) == (ExitCode.DONE, [])
    assert [c["iteration"] for c in read_curves(store, study.id)[1]] == [2, 4, 6]
    assert report(store, study, 1, 1)["iterations"] == 6


def test_a_trainer_that_is_asked_to_end_saves_on_its_machine_where_the_store_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Outage()
    study = study_in(store)

    def stop(_what: str, done: int, _total: int) -> None:
        if done == 5:
            store.closed = True
            os.kill(os.getpid(), signal.SIGTERM)

    words = {"orphan_grace": 1800, "now": Clock(), "scratch": tmp_path}
    assert train.run(store, study.id, 1, 1, 0, progress=stop, **words) == ExitCode.INTERRUPTED
    assert "iteration 5 is kept in" in caplog.text
    (kept,) = tmp_path.rglob("manifest.json")
    assert kept.parent.name == "5-a0"
    # A whole bundle, under the key that it will have in the store.
    prefix = facts.checkpoint_prefix(study.id, 1, 5, 0)
    assert bundle.load(FolderStore(kept.parents[len(prefix.rstrip("/").split("/"))]), prefix)


def test_where_the_machine_keeps_nothing_the_training_waits_for_the_store(tmp_path: Path) -> None:
    store = Outage()
    study = study_in(store)
    (tmp_path / "scratch").write_text("not a folder")
    waits = Waits(store, 60.0)
    code = train.run(
        store, study.id, 1, 1, 0, orphan_grace=1800, now=waits.clock, sleep=waits.sleep,
        scratch=tmp_path / "scratch", progress=close_at(store, 1),
    )  # fmt: skip
    assert code == ExitCode.DONE
    assert waits.now == 1060.0
    assert [c["iteration"] for c in read_curves(store, study.id)[1]] == [2, 4, 6]


def test_a_trainer_that_begins_while_the_store_is_away_waits_for_it(tmp_path: Path) -> None:
    store = Outage()
    study = study_in(store)
    store.closed = True
    waits = Waits(store, 60.0)
    words = {"orphan_grace": 1800, "now": waits.clock, "sleep": waits.sleep, "scratch": tmp_path}
    assert train.run(store, study.id, 1, 0, 0, **words) == ExitCode.DONE


def test_what_the_store_refuses_for_good_ends_the_trainer_at_once_with_the_stores_error(
    tmp_path: Path,
) -> None:
    store = Outage()
    study = study_in(store)
    store.error = StoreError
    with pytest.raises(StoreError, match="the store is away") as caught:
        train.run(
            store, study.id, 1, 1, 0, orphan_grace=1800, now=Clock(), scratch=tmp_path,
            progress=close_at(store, 1),
        )  # fmt: skip
    assert caught.value.exit_code == 4


def test_the_folder_for_what_is_kept_belongs_to_nobody_else(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = train._scratch()
    assert (own.parent, own.stat().st_mode & 0o777) == (tmp_path, 0o700)
    assert train._scratch() == own
    own.chmod(0o777)
    assert train._scratch() != own

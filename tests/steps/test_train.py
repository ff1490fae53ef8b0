import os
import signal

import pytest

from liverseg.errors import IntegrityError, SettingsDiffer, SettingsError
from liverseg.exit_codes import ExitCode
from liverseg.race.records import facts, spans
from liverseg.race.records.study import Study
from liverseg.steps.race import train
from liverseg.storage import record
from liverseg.storage.memory import MemoryStore
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
    paused, straight = MemoryStore(), MemoryStore()
    study = study_in(paused)
    assert trained(paused, study, 0) == ExitCode.DONE
    assert report(paused, study, 0)["iterations"] == 3
    assert trained(paused, study, 1) == ExitCode.DONE
    # Never paused, but validated at the same iterations.
    study_in(straight)
    with_stop = report(paused, study, 1)
    assert trained(straight, study, 0) == ExitCode.DONE
    assert trained(straight, study, 1) == ExitCode.DONE
    assert with_stop["weights_sha256"] == report(straight, study, 1)["weights_sha256"]
    curve = facts.read_curve(paused, study.id, 1)
    assert [c["iteration"] for c in curve] == [2, 3, 4, 6]
    assert all(set(c["cases"]) == {"validation"} for c in curve)
    assert all(set(c) == set(CURVE_ENTRIES) for c in curve)
    assert [c["rung"] for c in curve] == [0, 0, 1, 1]


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
    record.write(
        store, facts.heartbeat_key(study.id), {"generation": 1, "owner": "gone", "time": 900.0}
    )
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
    attempt = spans.Attempt(0, 1, 0)
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

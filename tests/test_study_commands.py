"""The commands of `liverseg study` but for `plan`."""

import io
import json
import re
from pathlib import Path

import pytest

from liverseg.race.controller import Controller
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.records import facts
from liverseg.race.records.study import open_study
from liverseg.settings import from_mapping, to_mapping
from liverseg.simulation.simulated_executor import SimulatedExecutor
from liverseg.steps.data.cases import save_dataset
from liverseg.storage.folder import FolderStore
from tests.command_line import CommandLine
from tests.race.rehearsal import DATASET, SETTINGS, Rehearsal, report_key
from tests.steps.tiny_study import study_in


def raced(folder: Path) -> tuple[FolderStore, str]:
    """A rehearsed race to its end, in a folder."""
    rehearsal = Rehearsal()
    rehearsal.run()
    store = FolderStore(folder)
    for key, data in rehearsal.store.objects.items():
        store.put(key, data)
    return store, rehearsal.study.id


def test_replay_accepts_a_race_and_names_the_report_that_was_altered_by_hand(
    liverseg: CommandLine, tmp_path: Path
) -> None:
    store, study = raced(tmp_path / "store")
    done = liverseg("study", "replay", "--store", tmp_path / "store")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"study {study}: 8 validations, 7 reports, 0 failures, ")
    assert done.out.endswith("files hashed: nothing differs\n")
    assert done.out.count("\n") == 1
    report = store.root / report_key(store, study, 0, 2, 0)
    report.write_text(report.read_text().replace("0.22", "0.92"), encoding="utf-8")
    done = liverseg("study", "replay", "--store", tmp_path / "store", "--study", study)
    assert done.code == 5
    lines = done.out.splitlines()
    altered, decided = lines
    assert altered.startswith(f"{report_key(store, study, 0, 2, 0)}: what it holds belongs under")
    assert "_0.92_2_0.92_" in altered
    assert decided.startswith(f"studies/{study}/rungs/0/decision.json: its input of seed 2 ")
    assert done.err == f"error: study {study}: {len(lines)} differences; see above\n"
    done = liverseg("study", "replay", "--store", tmp_path / "store", "--json")
    output = json.loads(done.out)
    assert (done.code, output["study"], output["checked"]["reports"]) == (5, study, 6)
    assert [f"{f['key']}: {f['problem']}" for f in output["findings"]] == lines


def test_the_status_of_a_finished_race_shows_its_seeds_only_when_asked(
    liverseg: CommandLine, tmp_path: Path
) -> None:
    raced(tmp_path / "store")
    words = ("study", "status", "--store", tmp_path / "store")
    short, long = liverseg(*words), liverseg(*words, "--seeds")
    assert short.code == long.code == 0
    assert "winner: seed 3, validation Jaccard 0.3800" in short.out
    assert "pruned" not in short.out
    assert re.search(r"^SHA-256 of its weights: [0-9a-f]{64}$", short.out, re.MULTILINE)
    assert long.out.count("pruned") == 3
    output = json.loads(liverseg(*words, "--json").out)
    assert [seed["state"] for seed in output["seeds"]] == ["pruned", "pruned", "pruned", "winner"]
    assert output["remaining_seconds"] == 0
    for watched in (liverseg(*words, "--watch"), liverseg(*words, "--watch", "--json")):
        assert watched.code == 0
        assert "winner" in watched.out


def test_the_status_of_a_race_that_was_never_run_shows_every_seed(
    liverseg: CommandLine, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    open_study(store, SETTINGS, DATASET)
    done = liverseg("study", "status", "--store", tmp_path / "store")
    assert done.code == 0
    assert done.out.count("waiting") == 4
    assert "no winner yet; the race has not been started" in done.out


def test_a_study_is_stopped_and_resumed_and_says_so(liverseg: CommandLine, tmp_path: Path) -> None:
    study = study_in(FolderStore(tmp_path))
    done = liverseg("study", "stop", "--store", tmp_path)
    assert (done.code, done.out) == (0, f"study {study.id} is stopped\n")
    assert "was already stopped" in liverseg("study", "stop", "--store", tmp_path).out
    dataset = study.dataset.digest
    store = FolderStore(tmp_path)
    save_dataset(store, study.dataset)
    settings = json.dumps({k: v for k, v in to_mapping(study.settings).items() if k != "preset"})
    words = ("study", "run", "--store", tmp_path, "--dataset", dataset, "--settings", settings)
    done = liverseg(*words)
    assert done.code == 6
    assert "stopped: by hand: `liverseg study resume` allows it to continue" in done.err
    assert not store.keys(f"studies/{study.id}/rungs/")
    assert "is resumed" in liverseg("study", "resume", "--store", tmp_path).out


def test_race_and_baseline_are_run_under_one_lease(liverseg: CommandLine, tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    study = study_in(store)
    executor = SimulatedExecutor(store, study)
    clock, capacity = executor.clock, Capacity(4, True)
    times = {"clock": clock, "monotonic": clock, "sleep": executor.wait}
    Controller(store, executor, study, capacity, **times).run("baseline")
    before = facts.read_heartbeat(store, study.id)
    assert before is not None
    done = liverseg("study", "run", "--store", tmp_path, "--study", study.id, "--json")
    assert (done.code, json.loads(done.out)["started"]) == (0, 0)
    after = facts.read_heartbeat(store, study.id)
    assert after is not None
    assert after.generation == before.generation + 1


def test_a_command_that_changes_a_study_lists_several_and_takes_none(
    liverseg: CommandLine, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path)
    studies = [open_study(store, SETTINGS, DATASET).id]
    studies.append(open_study(store, from_mapping({"race": {"seeds": 8}}, SETTINGS), DATASET).id)
    before = store.keys("")
    for words in (("stop",), ("resume",), ("prune-checkpoints",), ("extend", "--seeds", 9)):
        done = liverseg("study", words[0], "--store", tmp_path, *words[1:])
        assert done.code == 2
        assert "2 studies without a winner; say with --study which one" in done.err
        assert all(f"{study}  not started" in done.err for study in studies)
    done = liverseg("study", "delete", "--store", tmp_path, "--yes")
    assert done.code == 2
    assert store.keys("") == before
    assert liverseg("study", "stop", "--store", tmp_path, "--study", studies[0]).code == 0


def test_a_study_is_deleted_when_it_was_asked_for_and_says_what_stays(
    liverseg: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, study = raced(tmp_path / "store")
    store.put("cases/key/case.npz", b"x")
    words = ("study", "delete", "--store", tmp_path / "store")
    for answer in ("n\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        done = liverseg(*words)
        assert done.code == 130
        assert f"Delete study {study}" in done.err
        assert store.keys(f"studies/{study}/spec.json")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    done = liverseg(*words)
    assert (done.code, store.keys("studies/")) == (0, [])
    assert f"study {study} is deleted: " in done.out
    assert "MB of checkpoints and networks freed" in done.out
    assert done.out.endswith("kept, since other studies may use them: cases/\n")
    assert liverseg(*words).code == 6


def test_deleting_tells_a_machine_what_it_did(liverseg: CommandLine, tmp_path: Path) -> None:
    _, study = raced(tmp_path / "store")
    done = liverseg("study", "delete", "--store", tmp_path / "store", "--yes", "--json")
    output = json.loads(done.out)
    assert (output["study"], output["jobs"], output["kept"]) == (study, 0, [])
    assert output["keys"] > 0
    assert output["bytes"] > 0


@pytest.mark.parametrize("hours", ["0", "-1", "two"])
def test_a_budget_of_nothing_is_refused(liverseg: CommandLine, tmp_path: Path, hours: str) -> None:
    words = ("--store", tmp_path, "--dataset", "x", "--max-gpu-hours", hours)
    done = liverseg("study", "run", *words)
    assert done.code == 2
    assert "--max-gpu-hours" in done.err

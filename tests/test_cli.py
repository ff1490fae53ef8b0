import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from liverseg import errors
from liverseg.cli import main
from liverseg.cli.root import root
from liverseg.exit_codes import ExitCode
from liverseg.race.controller import Controller
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.records import facts
from liverseg.race.records.study import open_study
from liverseg.settings import from_mapping, to_mapping
from liverseg.simulation.simulated_executor import SimulatedExecutor
from liverseg.steps.data.cases import save_dataset
from liverseg.steps.results import result_keys
from liverseg.storage.folder import FolderStore
from tests.conftest import CaseWriter
from tests.race.rehearsal import DATASET, SETTINGS, Rehearsal, report_key
from tests.steps.tiny_study import finished_study, study_in

SHORT = {"seeds": 2, "minimum_iterations": 10, "maximum_iterations": 20}


@dataclass
class Done:
    code: int
    out: str
    err: str


class CommandLine:
    """Runs `liverseg` in this process, as the console script does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["liverseg", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = self._capsys.readouterr()
        return Done(code, out, err)


@pytest.fixture
def liverseg(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    monkeypatch.delenv("LIVERSEG_STORE", raising=False)
    # `main` sets it, for what it starts; the tests after this one are not to have it.
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    before = signal.getsignal(signal.SIGTERM)
    yield CommandLine(monkeypatch, capsys)
    signal.signal(signal.SIGTERM, before)


def commands(group: click.Group = root, above: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")
        else:
            yield above + name, command


ALL = dict(commands())


def test_the_commands_are_those_that_are_promised() -> None:
    assert set(ALL) == {
        "phantom", "dataset push", "dataset pull", "scan", "preprocess", "train", "predict",
        "postprocess", "evaluate", "report",
        "study run", "study status", "study plan", "study replay", "study stop", "study resume",
        "study extend", "study prune-checkpoints", "study delete",
        "pipeline compile", "pipeline run", "pipeline upload", "pipeline submit",
        "pipeline schedule",
    }  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_every_command_says_what_it_does_and_shows_itself_in_an_example(name: str) -> None:
    command = ALL[name]
    assert command.help
    assert f"liverseg {name}" in (command.epilog or "")


@pytest.mark.parametrize("name", ALL)
def test_every_example_is_indented_alike_and_what_continues_one_deeper(name: str) -> None:
    _, _, shown = (ALL[name].epilog or "").partition("Example:\n")
    lines = shown.partition("\n\n")[0].splitlines()
    assert lines
    for before, line in zip(["", *lines], lines, strict=False):
        assert line.startswith(" " * 3 if before.endswith("\\") else "  liverseg "), line


def test_no_help_ends_in_four_dots() -> None:
    helps = [o.help or "" for c in ALL.values() for o in c.params if isinstance(o, click.Option)]
    assert [text for text in helps if "...." in text] == []


@pytest.mark.parametrize("name", ALL)
def test_every_option_is_explained(name: str) -> None:
    options = [p for p in ALL[name].params if isinstance(p, click.Option)]
    assert [o.name for o in options if not o.help] == []


@pytest.mark.parametrize("name", ALL)
def test_no_example_names_an_option_that_the_command_lacks(name: str) -> None:
    known = {word for p in ALL[name].params for word in p.opts}
    assert set(re.findall(r"--[a-z-]+", ALL[name].epilog or "")) <= known


def test_every_error_ends_with_an_exit_code_that_is_listed() -> None:
    kinds = [e for e in vars(errors).values() if isinstance(e, type)]
    codes = [kind.exit_code for kind in kinds if issubclass(kind, errors.LiversegError)]
    assert codes
    assert [code for code in codes if not isinstance(code, ExitCode)] == []


def test_help_lists_every_exit_code_on_a_line_of_its_own(liverseg: CommandLine) -> None:
    shown = liverseg("--help").out
    assert [c for c in ExitCode if f"\n    {c:<3} {c.meaning}\n" not in shown] == []


def test_help_of_train_lists_the_ways_a_trainer_ends(liverseg: CommandLine) -> None:
    shown = liverseg("train", "--help").out
    listed = re.findall(r"^    (\d+) +\S", shown, re.MULTILINE)
    assert listed == ["0", "75", "76", "77", "78"]


def test_help_comes_out_with_its_examples_line_by_line(liverseg: CommandLine) -> None:
    done = liverseg("--help")
    assert done.code == 0
    assert "\n    liverseg phantom build/phantom\n" in done.out


@pytest.mark.slow
def test_the_papers_figures_come_out_of_plan(liverseg: CommandLine) -> None:
    words = ("--seeds", 16, "--gpus", 4, "--seconds-per-iteration", 0.763, "--json")
    cost = json.loads(liverseg("study", "plan", *words).out)
    assert cost["iterations"] == 240_000
    assert cost["gpu_seconds"] == pytest.approx(240_000 * 0.763)
    assert cost["makespan_seconds"] == pytest.approx(100_000 * 0.763)
    assert [rung["seeds"] for rung in cost["rungs"]] == [16, 8, 4, 2, 1]
    assert "50:52 GPU-hours" in liverseg("study", "plan").out


@pytest.mark.parametrize("gpus", [0, -1])
def test_no_trainer_at_all_is_refused(liverseg: CommandLine, gpus: int) -> None:
    done = liverseg("study", "plan", "--gpus", gpus)
    assert done.code == 2
    assert "--gpus" in done.err
    assert f"must be at least 1, not {gpus}" in done.err


def test_an_unknown_setting_is_refused_with_the_known_ones(liverseg: CommandLine) -> None:
    done = liverseg("study", "plan", "--set", "race.sedes=4")
    assert done.code == 2
    assert done.err.startswith("error: setting 'race.sedes' is unknown; known: race.seeds,")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--settings", "{race"), "are not JSON"),
        (("--settings", "no-such-file.json"), "No such file"),
        (("--set", "seeds=4"), "write TOPIC.NAME=VALUE"),
        (("--set", "race.seeds"), "write TOPIC.NAME=VALUE"),
        (("--set", "race.eta=two"), "setting 'race.eta' must be"),
        (("--settings", '{"race": 3}', "--set", "race.eta=2"), "setting 'race' must be a table"),
        (("--preset", "papper"), "preset 'papper' is unknown; known: paper"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(
    liverseg: CommandLine, words: tuple[str, ...], message: str
) -> None:
    done = liverseg("study", "plan", *words)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("content", [b"[1, 2]", b"\xff\xfe\x00"])
def test_a_settings_file_that_is_no_table_is_refused(
    liverseg: CommandLine, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    done = liverseg("study", "plan", "--settings", path, "--set", "race.eta=2")
    assert done.code == 2
    assert str(path) in done.err


def test_a_single_setting_wins_over_the_settings_file(
    liverseg: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"race": SHORT}))
    words = ("--seeds", 2, "--settings", path, "--json")
    from_file = json.loads(liverseg("study", "plan", *words).out)
    assert [rung["iterations"] for rung in from_file["rungs"]] == [10, 20]
    words = (*words, "--set", "race.minimum_iterations=5")
    assert json.loads(liverseg("study", "plan", *words).out)["rungs"][0]["iterations"] == 5


def test_a_store_of_an_unknown_kind_is_refused(liverseg: CommandLine) -> None:
    done = liverseg("study", "status", "--store", "ftp://host/store")
    assert done.code == 2
    assert "known: file, s3" in done.err


def test_a_bucket_without_credentials_is_refused_with_the_variable_that_is_missing(
    liverseg: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    done = liverseg("study", "status", "--store", "s3://bucket/prefix")
    assert done.code == 2
    assert "AWS_ACCESS_KEY_ID is not set" in done.err


def test_a_store_without_a_study_says_so_and_is_not_made(
    liverseg: CommandLine, tmp_path: Path
) -> None:
    done = liverseg("study", "status", "--store", tmp_path / "store", "--json")
    assert (done.code, done.out) == (6, "")
    assert "no study" in done.err
    assert not (tmp_path / "store").exists()


def test_the_store_may_come_from_the_environment(
    liverseg: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVERSEG_STORE", str(tmp_path / "store"))
    assert liverseg("study", "status").code == 6


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


def test_scan_accepts_names_with_spaces_and_umlauts(
    liverseg: CommandLine, tmp_path: Path, write_case: CaseWriter
) -> None:
    data = tmp_path / "data"
    names = ["Fall Müller 1", "Fall Müller 2", "Fall Müller 3"]
    for seed, name in enumerate(names):
        write_case(data / name, seed)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"test": names[:1], "validation": names[1:2]}), encoding="utf-8")
    words = (data, "--store", tmp_path / "my store", "--split", split)
    scanned = json.loads(liverseg("scan", *words, "--json").out)
    assert scanned["problems"] == []
    assert {case["case"]: case["role"] for case in scanned["cases"]} == {
        names[0]: "test", names[1]: "validation", names[2]: "training"
    }  # fmt: skip
    table = liverseg("scan", *words)
    assert table.code == 0
    assert scanned["dataset"] in table.out
    run = ("study", "run", "--store", tmp_path / "my store", "--dataset", scanned["dataset"])
    unprepared = liverseg(*run)
    assert unprepared.code == 6
    assert "3 of 3 cases are not prepared in this store, such as" in unprepared.err
    prepared = liverseg("preprocess", "--data", *words)
    assert "3 cases prepared, 0 reused" in prepared.out
    assert f"\ndata set {scanned['dataset']}\n" in prepared.out
    assert "0 cases prepared, 3 reused" in liverseg("preprocess", "--data", *words).out


def test_scan_lists_every_problem_as_json_and_exits_with_3(
    liverseg: CommandLine, tmp_path: Path, write_case: CaseWriter
) -> None:
    data = tmp_path / "data"
    write_case(data / "no_rater", replace={"tumor_R1": None, "tumor_R2": None})
    write_case(data / "no_liver", replace={"liver": None})
    done = liverseg("scan", data, "--store", tmp_path / "store", "--json")
    assert done.code == 3
    assert {p["case"] for p in json.loads(done.out)["problems"]} >= {"no_rater", "no_liver"}
    assert not (tmp_path / "store").exists()


def test_brackets_in_a_message_are_not_taken_for_markup(
    liverseg: CommandLine, tmp_path: Path
) -> None:
    done = liverseg("scan", tmp_path / "a[bold]b", "--store", tmp_path / "store")
    assert "a[bold]b" in done.err


@pytest.mark.slow
def test_a_store_without_rights_ends_with_4_and_one_line(
    liverseg: CommandLine, tmp_path: Path, write_case: CaseWriter
) -> None:
    # Nobody may write there, not even root.
    store = "/proc/liverseg"
    for name in ("a", "b", "c"):
        write_case(tmp_path / "data" / name, ord(name))
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"test": ["a"], "validation": ["b"]}))
    words = ("--store", store, "--split", split)
    for done in (
        liverseg("scan", tmp_path / "data", *words),
        liverseg("pipeline", "run", "--data", tmp_path / "data", *words),
    ):
        assert done.code == 4
        assert done.err.startswith("error: ")
        assert store in done.err
        assert "Traceback" not in done.err


@pytest.mark.slow
def test_predict_refuses_a_model_folder_that_is_none(
    liverseg: CommandLine, tmp_path: Path, write_case: CaseWriter
) -> None:
    case = write_case(tmp_path / "case")
    words = ("--image", case / "image.nii.gz", "--liver", case / "liver.nii.gz")
    out = tmp_path / "out.nii.gz"
    done = liverseg("predict", *words, "--model", tmp_path / "model", "--out", out)
    assert done.code in range(2, 7)
    assert str(tmp_path / "model") in done.err
    assert not out.exists()


@pytest.mark.slow
def test_a_rung_that_is_no_number_is_refused(liverseg: CommandLine, tmp_path: Path) -> None:
    words = ("--store", tmp_path, "--study", "x", "--seed", 0, "--rung", "last")
    done = liverseg("train", *words)
    assert done.code == 2
    assert "'last'" in done.err


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


@pytest.mark.slow
def test_ctrl_c_ends_without_a_traceback_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "phantom"
    command = [sys.executable, "-m", "liverseg.cli", "phantom", str(out), "--cases", "500"]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        # Tests that a shell runs in the background ignore SIGINT, and their children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while not out.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "interrupted; the same command continues from here"


def test_cases_of_other_settings_are_refused_before_a_study_is_opened(
    liverseg: CommandLine, tmp_path: Path, write_case: CaseWriter
) -> None:
    for seed, name in enumerate("abc"):
        write_case(tmp_path / "data" / name, seed)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"test": ["a"], "validation": ["b"]}))
    words = (tmp_path / "data", "--store", tmp_path / "store", "--split", split, "--json")
    dataset = json.loads(liverseg("scan", *words).out)["dataset"]
    run = ("study", "run", "--store", tmp_path / "store", "--dataset", dataset)
    done = liverseg(*run, "--set", "preparation.in_plane_mm=2")
    assert done.code == 2
    assert "'preparation.in_plane_mm' is 2.0, the data set was scanned with 1.0" in done.err
    assert liverseg("study", "status", "--store", tmp_path / "store").code == 6


def test_the_preset_is_not_a_setting(liverseg: CommandLine) -> None:
    done = liverseg("study", "plan", "--settings", '{"preset": "small"}')
    assert done.code == 2
    assert "use --preset" in done.err


@pytest.mark.slow
def test_plan_takes_the_seeds_from_the_settings(liverseg: CommandLine) -> None:
    eight = json.loads(liverseg("study", "plan", "--set", "race.seeds=8", "--json").out)
    assert [rung["seeds"] for rung in eight["rungs"]] == [8, 4, 2, 1, 1]


def test_a_split_that_names_nobody_is_the_split_s_fault(
    liverseg: CommandLine, tmp_path: Path, write_case: CaseWriter
) -> None:
    for seed, name in enumerate("abc"):
        write_case(tmp_path / "data" / name, seed)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"test": ["nobody"]}))
    done = liverseg("scan", tmp_path / "data", "--store", tmp_path / "store", "--split", split)
    assert done.code == 2
    assert "'nobody'" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "postprocess"])
def test_nothing_is_evaluated_before_there_is_a_model(
    liverseg: CommandLine, tmp_path: Path, command: str
) -> None:
    study = study_in(FolderStore(tmp_path))
    done = liverseg(command, "--store", tmp_path)
    assert done.code == 6
    assert f"study {study.id} has no model yet" in done.err
    assert not (tmp_path / "studies" / study.id / "evaluation.json").exists()


@pytest.mark.slow
def test_postprocessing_makes_up_for_what_is_missing_of_the_seeds_comparison(
    liverseg: CommandLine, tmp_path: Path
) -> None:
    store, study = finished_study(FolderStore(tmp_path))
    before = store.get(result_keys.disagreement_key(study.id))
    store.delete(result_keys.disagreement_key(study.id))
    done = liverseg("postprocess", "--store", tmp_path)
    assert done.code == 0
    assert "ensemble: compared" in done.out
    assert store.get(result_keys.disagreement_key(study.id)) == before


@pytest.mark.slow
def test_a_path_that_looks_like_markup_is_shown_as_it_is(
    liverseg: CommandLine, tmp_path: Path
) -> None:
    out = tmp_path / "[bold]x" / "[" / "b]x"
    output = liverseg("pipeline", "compile", "--out", out).out
    assert output.splitlines()[0] == str(out / "training.yaml")


@pytest.mark.slow
def test_a_file_where_a_folder_is_needed_is_one_line_and_no_defect(
    liverseg: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = liverseg("pipeline", "compile", "--out", tmp_path / "file" / "x")
    assert done.code == 2  # before the pipeline is compiled: the option is wrong
    assert str(tmp_path / "file") in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (MemoryError("Unable to allocate 3 GiB"), 7, "error: out of memory: Unable to allocate 3"),
        (MemoryError(), 7, "error: out of memory: an allocation failed"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
            7,
            "error: out of memory: DefaultCPUAllocator",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 7, "error: out of memory"),
        (PermissionError(13, "Permission denied", "/a"), 4, "error: Permission denied: /a"),
        (OSError(28, "No space left on device"), 4, "error: No space left on device\n"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), 1, "error: a defect of liverseg"),
        (KeyError("seed"), 1, "error: a defect of liverseg"),
        (RuntimeError("no such thing"), 1, "please report the traceback"),
    ],
    ids=repr,
)
def test_only_a_defect_is_shown_with_its_traceback(
    liverseg: CommandLine, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: int, said: str
) -> None:
    def raises(**_values: object) -> None:
        raise raised

    monkeypatch.setattr(ALL["phantom"], "callback", raises)
    done = liverseg("phantom", "x")
    assert done.code == code
    assert said in done.err
    assert ("Traceback" in done.err) == (code == 1)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["study", "plan", "--json"], ["study", "plan"], ["--help"]])
def test_results_that_cannot_be_printed_are_an_error(words: list[str]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "liverseg.cli", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 4
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr

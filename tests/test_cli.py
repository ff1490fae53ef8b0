"""What the commands say and how they end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from liverseg.cli.root import root
from liverseg.steps.results import result_keys
from liverseg.storage.folder import FolderStore
from tests.command_line import CommandLine
from tests.conftest import CaseWriter
from tests.steps.tiny_study import finished_study, study_in

SHORT = {"seeds": 2, "minimum_iterations": 10, "maximum_iterations": 20}


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

    monkeypatch.setattr(root.commands["phantom"], "callback", raises)
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

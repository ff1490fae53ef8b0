"""`liverseg evaluate` on files, as it is typed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CaseWriter

WORDS = (
    "--reference", "R1=tumor_R1.nii.gz", "--reference", "R2=tumor_R2.nii.gz",
    "--prediction", "tumor_R1.nii.gz", "--prediction", "net=tumor_R2.nii.gz", "--jobs", "1",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, write_case: CaseWriter) -> Path:
    for name in ("a", "b"):
        write_case(tmp_path / "cases" / name)
    return tmp_path / "cases"


@pytest.mark.slow
def test_a_folder_is_one_command_with_tables_files_and_json(liverseg, folder, tmp_path) -> None:
    files = "--csv", tmp_path / "out" / "t.csv", "--html", tmp_path / "out" / "t.html"
    done = liverseg("evaluate", "--cases", folder, *WORDS, *files)
    assert done.code == 0, done.err
    assert "Dice, 2 cases" in done.out
    assert "A1 - net" in done.out
    assert (tmp_path / "out" / "t.csv").read_text().startswith("case,algorithm,dice.R1,")
    assert "<h2>Cases, mean over raters</h2>" in (tmp_path / "out" / "t.html").read_text()
    printed = json.loads(liverseg("evaluate", "--cases", folder, *WORDS, "--json").out)
    assert (printed["raters"], printed["algorithms"]) == (["R1", "R2"], ["A1", "net"])


@pytest.mark.slow
def test_on_one_core_there_is_one_process(folder) -> None:
    words = [word for word in WORDS if word not in ("--jobs", "1")]
    # Each process is made in a context of its own.
    code = (
        "import multiprocessing, os, sys\n"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "real, started = multiprocessing.get_context, []\n"
        "multiprocessing.get_context = lambda kind: (started.append(kind), real(kind))[1]\n"
        f"sys.argv = {['liverseg', 'evaluate', '--cases', str(folder), *words]!r}\n"
        "from liverseg.cli import main\n"
        "try:\n    main()\nfinally:\n    assert started == ['spawn'], started\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_one_unreadable_file_is_partly_and_everything_else_is_there(liverseg, folder) -> None:
    (folder / "a" / "tumor_R2.nii.gz").write_bytes(b"no image")
    done = liverseg("evaluate", "--cases", folder, *WORDS)
    assert done.code == 8
    assert "Left out: a: 'tumor_R2.nii.gz'" in done.out
    assert "Dice, 1 case" in done.out
    assert "No p-value: 1 case has both values" in done.out
    (folder / "b" / "tumor_R2.nii.gz").write_bytes(b"no image")
    assert liverseg("evaluate", "--cases", folder, *WORDS).code == 3


def test_one_case_and_one_rater(liverseg, folder) -> None:
    file = folder / "a" / "tumor_R1.nii.gz"
    done = liverseg("evaluate", "--reference", file, "--prediction", file)
    assert done.code == 0, done.err
    assert "One rater: there is no agreement between raters" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --reference and --prediction, or --store for a study"),
        (["--prediction", "a.nii"], "give --reference"),
        (["--reference", "a.nii"], "give --prediction"),
        (["--reference", "a", "--prediction", "b", "--store", "s"], "not a --store's"),
        (["--reference", "R1=a", "--prediction", "R1=b"], "both a reference and a prediction"),
        (["--reference", "X=a", "--reference", "X=c", "--prediction", "b"], "given twice"),
        (["--reference", "mean=a", "--prediction", "b"], "not 'mean'"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(liverseg, words, message) -> None:
    done = liverseg("evaluate", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_a_store_in_the_environment_does_not_get_in_the_way(liverseg, folder, monkeypatch) -> None:
    monkeypatch.setenv("LIVERSEG_STORE", "/nowhere")
    file = folder / "a" / "tumor_R1.nii.gz"
    assert liverseg("evaluate", "--reference", file, "--prediction", file).code == 0


def test_liver_labels_without_a_liver_are_refused(liverseg, folder) -> None:
    done = liverseg("evaluate", "--cases", folder, *WORDS, "--liver-label", 1, "--liver-label", 2)
    assert done.code == 2
    assert "--liver-label 1 --liver-label 2: there is no --liver" in done.err
    assert "give it, or leave them out" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("--csv", "t.csv"),
        ("--html", "t.html"),
        ("--liver", "liver.nii.gz"),
        ("--lesion-label", 1),
        ("--liver-label", 1),
        ("--resample-prediction",),
        ("--jobs", 2),
    ],
)
def test_options_of_files_are_refused_for_a_study(liverseg, tmp_path, words) -> None:
    done = liverseg("evaluate", "--store", tmp_path / "store", *words)
    assert done.code == 2
    assert f"{words[0]} is for files: give --reference and --prediction" in done.err
    assert list(tmp_path.iterdir()) == []

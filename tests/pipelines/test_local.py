import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from liverseg.settings import BASELINE_SEED
from liverseg.steps import tasks
from liverseg.steps.data import phantom
from liverseg.steps.race.race_logger import LOG_PREFIX
from liverseg.steps.task_errors import ERROR_FILE
from liverseg.storage.folder import FolderStore
from pipelines.local import LOG_FILE, OurLines, failure
from tests.file_opens import counted_opens
from tests.telemetry.test_study_collector import by_label, parsed

# The smallest study that still has rungs, resumed seeds and a network that runs.
TINY = {
    "network": {"features": [2, 4, 4]},
    "training": {"validation_interval": 2},
    "race": {"seeds": 4, "minimum_iterations": 2, "maximum_iterations": 8},
}


def command(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "liverseg.cli", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def pipeline(data: Path, store: Path, *words: object) -> subprocess.CompletedProcess[str]:
    settings = json.dumps(TINY)
    basic = ("--data", data, "--store", store, "--preset", "demo", "--settings", settings)
    return command("pipeline", "run", *basic, *words)


def status(store: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        command("study", "status", "--store", store, "--json").stdout
    )
    return document


def mean_dice(segmentation: Path, case: Path) -> float:
    """Mean Dice with the raters, straight from the files."""
    drawn = sitk.GetArrayFromImage(sitk.ReadImage(segmentation)) > 0
    raters = [sitk.GetArrayFromImage(sitk.ReadImage(p)) > 0 for p in case.glob("tumor_*")]
    values = [2 * (drawn & mask).sum() / (drawn.sum() + mask.sum()) for mask in raters]
    return float(np.mean(values))


@pytest.mark.slow
def test_a_study_runs_once_reuses_everything_and_prepares_only_an_added_case(
    tmp_path: Path,
) -> None:
    data, store = tmp_path / "Meine Fälle", tmp_path / "my store"
    added = tmp_path / "added"
    folders = phantom.run(data, 6, 0)
    shutil.move(folders[5], added)
    split = tmp_path / "split.json"
    roles = {"test": [folders[0].name], "validation": [folders[1].name]}
    split.write_text(json.dumps(roles), encoding="utf-8")

    with counted_opens(data) as opens:
        first = pipeline(data, store, "--split", split)
    assert first.returncode == 0, first.stdout + first.stderr
    assert opens == {p.relative_to(data).as_posix(): 1 for p in data.glob("*/*")}
    race_status = status(store)
    assert [(len(r["seeds"]), len(r["promoted"])) for r in race_status["rungs"]] == [
        (4, 2),
        (2, 1),
        (1, 1),
    ]
    assert race_status["winner"]["sha256"] in first.stdout
    assert race_status["baseline"]["seed"] == BASELINE_SEED
    report = store / "studies" / race_status["study"] / "report.html"
    assert f"report: {report}" in first.stdout
    assert report.stat().st_size > 10_000
    metrics = report.with_name("metrics.prom")
    assert f"GPU-hours: {metrics}; `liverseg metrics --store" in first.stdout
    spent = by_label(parsed(metrics.read_bytes()), "gpu_seconds", "outcome")
    for outcome, seconds in spent.items():
        parts = race_status["ledger"], race_status["ledger"]["baseline"]
        assert seconds == pytest.approx(sum(part[outcome]["seconds"] for part in parts))
    assert "cases preprocessed: 5, reused: 0" in first.stdout
    assert "trainings from rung to rung: 8" in first.stdout
    assert "executor_input" not in first.stdout

    second = pipeline(data, store, "--split", split, "--json")
    assert second.returncode == 0, second.stdout + second.stderr
    summary = json.loads(second.stdout)
    assert (summary["prepared"], summary["reused"], summary["trained"]) == (0, 5, 0)
    assert (summary["report"], summary["metrics"]) == (str(report), str(metrics))
    assert summary["evaluation"]["arms"]["threshold"]["mean_dice"] == pytest.approx(
        0.6125, abs=1e-3
    )
    for arm, weights in (("multi", "winner"), ("baseline", "baseline")):
        masks = store.glob(f"segmentations/{race_status[weights]['sha256'][:16]}-*/**/*.nii.gz")
        expected = mean_dice(next(masks), folders[0])
        assert summary["evaluation"]["arms"][arm]["mean_dice"] == pytest.approx(expected)
    assert "nothing to train" in second.stderr
    again = status(store)
    same = ("rungs", "winner", "baseline", "ledger", "seeds")
    assert (
        {k: again[k] for k in same}
        == {k: race_status[k] for k in same}
        == {k: summary[k] for k in same}
    )

    shutil.move(added, data / added.name)
    third = pipeline(data, store, "--split", split, "--no-compare-baseline")
    assert third.returncode == 0, third.stdout + third.stderr
    assert "cases preprocessed: 1, reused: 5" in third.stdout
    assert "trainings from rung to rung: 7" in third.stdout
    assert status(store)["baseline"] is None


@pytest.mark.slow
def test_a_task_that_fails_tells_its_own_message_and_exit_code(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = pipeline(tmp_path / "data", tmp_path / "store")
    assert done.returncode == 2
    assert done.stderr.startswith("error: data folder")
    assert "has no case" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_file_in_the_working_directory_hides_no_module_from_a_task(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "random.py").write_text("raise ImportError('hidden by the working directory')")
    words = ("pipeline", "run", "--data", "data", "--store", "store", "--preset", "demo")
    # -P as the console script has it: here only the tasks are of interest.
    line = [sys.executable, "-P", "-m", "liverseg.cli", *words]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert "hidden" not in done.stderr + (tmp_path / "store/.local/kfp/log.txt").read_text()
    assert done.returncode == 2, done.stderr
    assert "has no case" in done.stderr


def test_a_task_that_dies_without_a_message_is_reported_with_its_traceback(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("much\nTraceback (most recent call last):\n  x\nValueError: y\n")
    error = failure(tmp_path / "error.json", log)
    assert error.exit_code == 1
    assert str(log) in str(error)
    assert "much" not in str(error)
    assert str(error).endswith("ValueError: y")


def test_the_first_error_of_a_run_is_the_one_that_is_reported(tmp_path: Path) -> None:
    store, work = str(tmp_path), FolderStore(tmp_path).work / "kfp"
    work.mkdir(parents=True)
    with pytest.raises(SystemExit) as first:
        tasks.find_cases(str(tmp_path / "nowhere"), store, "demo", "", "{}", 1)
    with pytest.raises(SystemExit) as second:
        tasks.evaluate(store, "0123456789ab", "")
    assert (first.value.code, second.value.code) == (2, 6)
    error = failure(work / ERROR_FILE, work / LOG_FILE)
    assert error.exit_code == 2
    assert "nowhere" in str(error)


def test_the_last_task_does_not_fail_where_no_study_was_opened(tmp_path: Path) -> None:
    tasks.summary(str(tmp_path))


def test_only_our_lines_reach_the_terminal_and_all_reach_the_log() -> None:
    shown, log = io.StringIO(), io.StringIO()
    lines = OurLines(shown, log)
    for part in (
        "kfp says\n    [INFO]: " + LOG_PREFIX[:3],
        LOG_PREFIX[3:] + "seed 3",
        " reports\nmore\n",
    ):
        lines.write(part)
    assert shown.getvalue() == "seed 3 reports\n"
    assert log.getvalue().count("\n") == 3

"""Commands that write files which their users name: never over an input, whole or not at all."""

import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from liverseg.core.volumes.volume import Volume
from liverseg.errors import SettingsError
from liverseg.race.records import facts
from liverseg.steps.results import predict
from liverseg.storage import bundle
from liverseg.storage.folder import FolderStore
from tests.command_line import CommandLine
from tests.conftest import CaseWriter, grid, tiny_volumes
from tests.steps.tiny_study import finished_study
from tests.volume_files import write

SMALL_DISK_KIB = 24


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model of a finished tiny study."""
    store, study = finished_study()
    folder = tmp_path_factory.mktemp("model")
    for name, data in bundle.load(store, facts.model_prefix(study.id)).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def case(tmp_path: Path, write_case: CaseWriter) -> Path:
    folder = write_case(tmp_path / "case")
    (folder / "hard.nii.gz").hardlink_to(folder / "image.nii.gz")
    (folder / "link.nii.gz").symlink_to("liver.nii.gz")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "outputs",
    [
        ("--out", "image.nii.gz"),
        ("--out", "liver.nii.gz"),
        ("--out", "link.nii.gz"),
        ("--out", "hard.nii.gz"),
        ("--out", "../case/image.nii.gz"),
        ("--out", "new.nii.gz", "--probabilities", "image.nii.gz"),
        ("--out", "new.nii.gz", "--probabilities", "./new.nii.gz"),
        ("--out", "MODEL/model.safetensors"),
    ],
)
def test_predict_replaces_no_input(
    liverseg: CommandLine, trained: Path, case: Path, outputs: tuple[str, ...], monkeypatch
) -> None:
    monkeypatch.chdir(case)
    before = digests(case), digests(trained)
    words = [word.replace("MODEL", str(trained)) for word in outputs]
    files = "--image", "image.nii.gz", "--liver", "liver.nii.gz", "--model", trained
    done = liverseg("predict", *files, *words)
    assert done.code == 2
    assert "is the same file as" in done.err
    assert (digests(case), digests(trained)) == before


@pytest.mark.slow
def test_predict_tries_the_rights_before_it_reads_anything(
    liverseg: CommandLine, trained: Path, case: Path, tmp_path: Path
) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(mounted)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting needs root")
    (case / "image.nii.gz").write_bytes(b"no image: reading it would be another error")
    files = "--image", case / "image.nii.gz", "--liver", case / "liver.nii.gz", "--model", trained
    try:
        done = liverseg("predict", *files, "--out", mounted / "deeper" / "lesions.nii.gz")
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    assert done.code == 4
    assert "no right to write" in done.err
    assert "read-only" in done.err


@pytest.mark.slow
def test_predict_on_a_full_disk_leaves_neither_mask_nor_probabilities(
    trained: Path, case: Path, small_disk: Path, liverseg: CommandLine
) -> None:
    for name, volume in tiny_volumes().items():
        larger = np.repeat(np.repeat(volume.voxels, 2, axis=1), 2, axis=2)
        write(case / f"{name}.nii.gz", Volume(larger, grid(shape=larger.shape)))
    (small_disk / "lesions.nii").write_bytes(b"older")
    files = "--image", case / "image.nii.gz", "--liver", case / "liver.nii.gz", "--model", trained
    outputs = "--out", small_disk / "lesions.nii", "--probabilities", small_disk / "soft.nii"
    done = liverseg("predict", *files, *outputs)
    assert done.code == 4
    assert f"disk full: cannot write {small_disk}" in done.err
    assert "kB needed" in done.err
    assert {p.name: p.read_bytes() for p in small_disk.iterdir()} == {"lesions.nii": b"older"}


def evaluate(case: Path, *words: object) -> tuple[object, ...]:
    files = "--reference", case / "tumor_R1.nii.gz", "--prediction", case / "tumor_R2.nii.gz"
    return ("evaluate", *files, "--liver", case / "liver.nii.gz", *words)


@pytest.mark.parametrize("option", ["--csv", "--html"])
def test_evaluate_replaces_no_input(liverseg: CommandLine, case: Path, option: str) -> None:
    suffix = option.replace("--", ".")
    linked, hard = case / f"linked{suffix}", case / f"hard{suffix}"
    linked.symlink_to("tumor_R1.nii.gz")
    hard.hardlink_to(case / "tumor_R2.nii.gz")
    before = digests(case)
    for out in (case / "tumor_R1.nii.gz", case / "liver.nii.gz", linked, hard):
        done = liverseg(*evaluate(case, option, out))
        assert (done.code, done.out) == (2, ""), out
        assert "an input; choose another name" in done.err
    done = liverseg(*evaluate(case, "--csv", case / "a.csv", "--html", case / "a.csv"))
    assert (done.code, done.out) == (2, "")
    assert digests(case) == before


def test_evaluate_of_many_cases_replaces_no_input_of_any(
    liverseg: CommandLine, tmp_path: Path, write_case: CaseWriter
) -> None:
    for name in "abc":
        write_case(tmp_path / "cases" / name)
    out = tmp_path / "out.csv"
    out.symlink_to(tmp_path / "cases" / "c" / "tumor_R2.nii.gz")
    words = "--reference", "tumor_R1.nii.gz", "--prediction", "tumor_R2.nii.gz", "--csv", out
    done = liverseg("evaluate", "--cases", tmp_path / "cases", *words)
    assert (done.code, done.out) == (2, "")
    assert "c/tumor_R2.nii.gz', an input" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["html", "csv"])
def test_evaluate_prints_its_results_although_the_disk_is_full(
    liverseg: CommandLine, case: Path, small_disk: Path, kind: str
) -> None:
    report = small_disk / f"report.{kind}"
    report.write_text("an older report")
    (small_disk / "filler").write_bytes(bytes(16_384))
    with pytest.raises(OSError, match="No space"):
        (small_disk / "more").write_bytes(bytes(8_192))
    os.truncate(small_disk / "more", 0)
    (small_disk / "more").write_bytes(bytes(4_096))
    done = liverseg(*evaluate(case, f"--{kind}", report))
    assert done.code == 4
    assert "Dice, 1 case" in done.out
    assert f"disk full: cannot write {report} (" in done.err
    assert "0 kB free" in done.err
    assert report.read_text() == "an older report"
    assert sorted(p.name for p in small_disk.iterdir()) == ["filler", "more", report.name]
    assert json.loads(liverseg(*evaluate(case, f"--{kind}", report, "--json")).out)["cases"]


REFUSE_MATPLOTLIB = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("matplotlib", "jinja2"):
            raise ModuleNotFoundError(f"{name} is not installed here")
sys.meta_path.insert(0, Refused())
from liverseg.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--json"], [], ["--csv", "a.csv"]])
def test_evaluate_draws_nothing_without_a_page(case: Path, words: list[str]) -> None:
    command = [sys.executable, "-c", REFUSE_MATPLOTLIB, *map(str, evaluate(case, *words))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=case)
    assert done.returncode == 0, done.stderr
    command += ["--html", "a.html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=case)
    assert "matplotlib is not installed here" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "code", "left_out"), [(1, 8, ["a"]), (2, 0, [])])
def test_a_case_whose_process_is_killed_costs_no_other(
    tmp_path: Path, write_case: CaseWriter, jobs: int, code: int, left_out: list[str]
) -> None:
    """With two jobs it may have lacked the memory of the other: it is tried once more, alone."""
    for name in "abcd":
        write_case(tmp_path / name)
    words = ["--cases", tmp_path, "--reference", "tumor_R1.nii.gz", "--json"]
    words += ["--prediction", "tumor_R2.nii.gz", "--jobs", jobs]
    with subprocess.Popen(
        [sys.executable, "-m", "liverseg.cli", "evaluate", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        os.kill(first_worker(run.pid), signal.SIGKILL)
        out, err = run.communicate()
    assert run.returncode == code, err
    result = json.loads(out)
    assert [case["case"] for case in result["cases"]] == [n for n in "abcd" if n not in left_out]
    assert [one["case"] for one in result["excluded"]] == left_out
    assert all("was ended by SIGKILL" in one["reason"] for one in result["excluded"])


def first_worker(parent: int) -> int:
    """Return the pid of the first worker that a process starts, as soon as it is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for child in sorted(map(int, children)):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
        time.sleep(0.01)
    raise AssertionError("no worker was started")


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (900 << 20, 900 << 20))
from liverseg.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_case_that_needs_too_much_memory_costs_no_other(
    tmp_path: Path, write_case: CaseWriter, jobs: int
) -> None:
    write_case(tmp_path / "a")
    large = np.zeros((300, 600, 600), np.uint8)
    large[100:110, 100:110, 100:110] = 1
    for name in ("tumor_R1", "tumor_R2"):
        write(tmp_path / "b" / f"{name}.nii.gz", Volume(large, grid(shape=large.shape)))
    words = ["--cases", tmp_path, "--reference", "tumor_R1.nii.gz", "--jobs", jobs]
    words += ["--prediction", "tumor_R2.nii.gz", "--csv", tmp_path / "out.csv"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "evaluate", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 8, done.stdout + done.stderr
    assert "Left out: b: " in done.stdout
    assert "memory" in done.stdout
    assert "Dice, 1 case" in done.stdout
    assert (tmp_path / "out.csv").read_text().count("\na,") == 1


def test_plan_does_not_draw_over_its_settings(liverseg: CommandLine, tmp_path: Path) -> None:
    settings = tmp_path / "settings.svg"
    settings.write_text('{"race": {"seeds": 2}}')
    done = liverseg("study", "plan", "--settings", settings, "--gantt", settings)
    assert (done.code, done.out) == (2, "")
    assert "an input" in done.err
    assert settings.read_text() == '{"race": {"seeds": 2}}'


@pytest.mark.parametrize("name", ["race.png", "race", "disk"])
def test_plan_refuses_a_picture_that_it_cannot_draw(
    liverseg: CommandLine, tmp_path: Path, name: str
) -> None:
    (tmp_path / "disk").mkdir()
    done = liverseg("study", "plan", "--gantt", tmp_path / name)
    assert (done.code, done.out) == (2, "")


@pytest.mark.slow
def test_a_report_replaces_nothing_that_the_store_keeps(
    liverseg: CommandLine, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    memory, study = finished_study()
    for key, data in memory.objects.items():
        store.put(key, data)
    before = digests(store.root)
    spec = store.root / "studies" / study.id / "spec.html"
    for out, said in ((spec, "keeps"), (tmp_path / "a.txt", "must end")):
        done = liverseg("report", "--store", store.root, "--out", out)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
    assert digests(store.root) == before


@pytest.mark.slow
def test_compile_writes_both_files_or_none(liverseg: CommandLine, small_disk: Path) -> None:
    (small_disk / "training.yaml").write_text("older")
    done = liverseg("pipeline", "compile", "--out", small_disk)
    assert done.code == 4
    assert "disk full: cannot write" in done.err
    assert {p.name: p.read_text() for p in small_disk.iterdir()} == {"training.yaml": "older"}
    done = liverseg("pipeline", "compile", "--out", small_disk / "training.yaml")
    assert done.code == 2
    assert "is not a folder" in done.err


@pytest.mark.slow
def test_phantom_leaves_no_part_of_a_case_on_a_full_disk(
    liverseg: CommandLine, small_disk: Path
) -> None:
    done = liverseg("phantom", small_disk / "phantom", "--cases", 1)
    assert done.code == 4
    assert [p.name for p in (small_disk / "phantom").iterdir()] == ["phantom.json"]


def test_a_data_set_and_a_store_are_two_folders(
    liverseg: CommandLine, tmp_path: Path, write_case: CaseWriter
) -> None:
    data = tmp_path / "data"
    write_case(data / "a")
    before = digests(data)
    for words in (
        ("scan", data, "--store", data),
        ("scan", data, "--store", data / "store"),
        ("preprocess", "--data", data, "--store", data),
        ("dataset", "push", data, data.as_uri()),
        ("dataset", "pull", data.as_uri(), data),
        ("dataset", "pull", data.as_uri(), data / "blobs"),
    ):
        done = liverseg(*words)
        assert (done.code, done.out) == (2, ""), words
    assert digests(data) == before


@pytest.mark.slow
def test_one_file_for_both_outputs_is_refused_by_the_step_too(trained: Path, case: Path) -> None:
    out = case / "a.nii.gz"
    with pytest.raises(SettingsError, match="given to --out"):
        predict.one(case / "image.nii.gz", case / "liver.nii.gz", trained, out, out)

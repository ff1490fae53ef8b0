"""Where and as whom the command line runs: no home, unknown users, ASCII, read-only disks."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from liverseg.errors import SettingsError
from liverseg.platform.file_names import readable, undecodable
from liverseg.platform.folders import cache_folder, can_write
from tests.conftest import CaseWriter

ROOT = Path(__file__).parents[1]
# Of no user on any machine.
UNKNOWN = 54321
WORDS = ("--reference", "tumor_R1.nii.gz", "--prediction", "tumor_R2.nii.gz")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can get to; pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def cases(open_folder: Path, write_case: CaseWriter) -> Path:
    for name in ("a", "b"):
        write_case(open_folder / "cases" / name)
    return open_folder / "cases"


def run(
    *words: object,
    before: tuple[str, ...] = (),
    cwd: Path | None = None,
    safe: bool = True,
    **environment: str,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line with this environment and no other; `before` it: unshare, setpriv."""
    command = [sys.executable, *(["-P"] if safe else []), "-m", "liverseg.cli", *map(str, words)]
    basic = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*before, *command], capture_output=True, check=False, cwd=cwd, env=basic | environment
    )


def as_unknown() -> tuple[str, ...]:
    """Return a command that runs another one with a user id without a name, and our own rights."""
    command = ("unshare", "--user", f"--map-user={UNKNOWN}", f"--map-group={UNKNOWN}")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("another user id needs the right to make a user namespace")
    return command


def read_only(*writable: str) -> tuple[str, ...]:
    """Return a command that runs another one where only these folders can be written."""
    mounts = "".join(f"mount -t tmpfs tmpfs {folder}; " for folder in writable)
    script = f'mount -o remount,ro,bind / || mount -o remount,ro /; {mounts}exec "$@"'
    command = ("unshare", "-rm", "sh", "-c", script, "sh")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("a read-only root needs the right to mount")
    return command


@pytest.mark.slow
def test_a_user_that_nobody_has_named_evaluates_and_draws(cases: Path, open_folder: Path) -> None:
    files = "--html", open_folder / "a.html", "--csv", open_folder / "a.csv"
    done = run("evaluate", "--cases", cases, *WORDS, *files, before=as_unknown(), cwd=open_folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert b"data:image/png" in (open_folder / "a.html").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("home", ["/proc", "/proc/nowhere", "/dev/null"])
def test_a_home_that_cannot_be_written_is_not_needed(cases: Path, home: str) -> None:
    out = cases.parent / "a.html"
    words = "evaluate", "--cases", cases, *WORDS, "--html", out
    done = run(*words, before=as_unknown(), cwd=cases, HOME=home)
    assert (done.returncode, done.stderr) == (0, b"")
    assert out.is_file()


@pytest.mark.slow
def test_a_store_in_s3_needs_no_home(cases: Path) -> None:
    """Its logs lie in the temporary folder then."""
    script = "from liverseg.storage.open import open_store; print(open_store('s3://bucket').work)"
    variables = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a"}
    variables |= {"AWS_SECRET_ACCESS_KEY": "b", "PYTHONPATH": str(ROOT), "TMPDIR": str(cases)}
    command = [*as_unknown(), sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    assert done.stdout.startswith(f"{cases}/liverseg-cache-{UNKNOWN}/work/"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("writable", [("/dev/shm",), ("/mnt",)])
def test_a_read_only_root_is_enough_to_evaluate(cases: Path, writable: tuple[str, ...]) -> None:
    before = read_only(*writable)
    temporary = {} if writable == ("/dev/shm",) else {"TMPDIR": writable[0]}
    words = "evaluate", "--cases", cases, *WORDS, "--json"
    done = run(*words, before=before, cwd=cases, HOME="/nonexistent", **temporary)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["cases"]) == 2
    out = Path(writable[0]) / "a.html"
    done = run(*words, "--html", out, before=before, cwd=cases, HOME="/nonexistent", **temporary)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
@pytest.mark.parametrize("home", [{}, {"HOME": "/root"}, {"HOME": "/nonexistent"}])
def test_on_a_read_only_root_an_output_is_refused_by_name(
    cases: Path, home: Mapping[str, str]
) -> None:
    words = "evaluate", "--cases", cases, *WORDS, "--csv", cases.parent / "a.csv"
    done = run(*words, before=read_only("/dev/shm"), cwd=cases, **home)
    assert (done.returncode, done.stdout) == (4, b"")
    assert b"a.csv: the file system is read-only" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "TERM": "dumb"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "COLUMNS": "0"},
        {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "latin-1", "TERM": "dumb"},
    ],
    ids=str,
)
def test_every_terminal_gets_the_tables(cases: Path, environment: Mapping[str, str]) -> None:
    odd = cases / "Läsion ✓"
    shutil.copytree(cases / "a", odd)
    done = run("evaluate", "--cases", cases, *WORDS, cwd=cases, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    plain = "latin-1" not in environment.get("PYTHONIOENCODING", "")
    assert (b"+/- 0.000" in done.stdout) == plain
    lines = [line for line in done.stdout.split(b"\n") if line.startswith((b"|", b"+"))]
    assert len(lines) > 10
    assert {len(line) for line in lines[:4]} == {len(lines[0])}
    done = run("evaluate", "--cases", cases, *WORDS, "--json", cwd=cases, **environment)
    printed = json.loads(done.stdout.decode("ascii"))
    assert printed["cases"][0]["case"] == "Läsion ✓"


@pytest.mark.slow
def test_a_task_of_the_pipeline_logs_every_character() -> None:
    script = (
        "from liverseg.steps.race.race_logger import log, start_log\n"
        "start_log()\n"
        r"log.info('Fall M\u00fcller, F\udce4ll: 1 \u00b1 2')"
    )
    environment = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.stderr == b""
    assert done.stdout.endswith(b"Fall M\\xfcller, F\\xe4ll: 1 +/- 2\n")


@pytest.mark.slow
def test_names_that_are_not_utf8_are_shown_and_findings_of_a_scan(cases: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(cases) + b"/F\xe4ll"))
    shutil.copytree(cases / "a", odd)
    (cases / "b" / os.fsdecode(b"tumor_\xff.nii.gz")).write_bytes(b"")
    done = run("evaluate", "--cases", cases, *WORDS, "--json", cwd=cases)
    assert done.returncode == 0, done.stderr
    assert [c["case"] for c in json.loads(done.stdout)["cases"]] == [r"F\xe4ll", "a", "b"]
    words = "scan", cases, "--store", cases.parent / "store", "--preset", "demo"
    done = run(*words, "--json", cwd=cases)
    assert done.returncode == 3, done.stderr
    scanned = json.loads(done.stdout.decode("utf-8"))
    assert [case["case"] for case in scanned["cases"]] == [r"F\xe4ll", "a", "b"]
    problems = [(p["case"], p["problem"]) for p in scanned["problems"]]
    assert any(case == r"F\xe4ll" and "is not UTF-8" in said for case, said in problems)
    assert any(case == "b" and r"tumor_\xff.nii.gz" in said for case, said in problems)
    for environment in ({}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "TERM": "dumb"}):
        done = run(*words, cwd=cases, **environment)
        assert done.returncode == 3, done.stderr
        assert rb"F\xe4ll" in done.stdout


@pytest.mark.slow
def test_outputs_and_inputs_may_have_names_that_are_not_utf8(cases: Path) -> None:
    odd = cases.parent / os.fsdecode(b"Ergebni\xdfe")
    odd.mkdir()
    shutil.copy(cases / "a" / "tumor_R1.nii.gz", odd / os.fsdecode(b"L\xe4sion.nii.gz"))
    reference = odd / os.fsdecode(b"L\xe4sion.nii.gz")
    files = "--reference", reference, "--prediction", reference, "--csv", odd / "a.csv"
    command = [os.fsencode(word) for word in map(str, files)]
    done = run("evaluate", *map(os.fsdecode, command), cwd=cases)
    assert done.returncode == 0, done.stderr
    assert (odd / "a.csv").read_text().split("\n")[1].startswith(r"L\xe4sion,A1,")


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (b"plain", "plain"),
        ("Fäll ✓".encode(), "Fäll ✓"),
        (b"F\xe4ll", r"F\xe4ll"),
        (b"\xff", r"\xff"),
    ],
)
def test_a_name_is_shown_with_the_bytes_that_are_no_text(stored: bytes, shown: str) -> None:
    assert readable(os.fsdecode(stored)) == shown
    assert readable(shown) == shown


def test_half_a_character_stands_for_no_byte() -> None:
    assert readable("a\ud800") == r"a\ud800"


def test_a_name_that_is_spelt_with_a_backslash_is_itself(tmp_path: Path) -> None:
    (tmp_path / r"F\xe4ll").mkdir()
    assert not undecodable(tmp_path, r"F\xe4ll")
    (tmp_path / os.fsdecode(b"\xe4")).mkdir()
    assert undecodable(tmp_path, r"\xe4")
    assert not undecodable(tmp_path, "absent")
    assert not undecodable(tmp_path / "absent", r"\xe4")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "jobs"), [("random", 2), ("numpy", 2), ("click", 1), ("json", 1)])
def test_a_file_in_the_working_directory_hides_no_module(cases: Path, name: str, jobs: int) -> None:
    """Not from the command itself, nor from the processes that it starts."""
    (cases.parent / f"{name}.py").write_text("raise SystemExit('the user\\'s file')\n")
    words = "evaluate", "--cases", cases, *WORDS, "--json", "--jobs", jobs
    # The working directory comes in as `python -m` does it, and as an empty part of PYTHONPATH.
    done = run(*words, cwd=cases.parent, PYTHONPATH=f"{ROOT}{os.pathsep}")
    assert done.returncode == 0, done.stderr
    assert b"the user's file" not in done.stderr + done.stdout


@pytest.mark.slow
def test_python_m_does_not_look_into_the_working_directory(cases: Path) -> None:
    (cases.parent / "rich.py").write_text("raise SystemExit('the user\\'s file')\n")
    words = "evaluate", "--cases", cases, *WORDS, "--json"
    done = run(*words, cwd=cases.parent, safe=False)
    assert done.returncode == 0, done.stderr


def test_the_cache_is_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert cache_folder(named) == tmp_path / "cache" / "liverseg"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder({}) == tmp_path / ".cache" / "liverseg"
    monkeypatch.setenv("HOME", "/proc/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    elsewhere = tmp_path / f"liverseg-cache-{os.getuid()}"
    assert cache_folder({}) == elsewhere
    if os.geteuid() == 0:
        elsewhere.mkdir()
        os.chown(elsewhere, UNKNOWN, UNKNOWN)
        with pytest.raises(SettingsError, match="belongs to another user; set XDG_CACHE_HOME"):
            cache_folder({})


def test_what_can_be_written_is_tried(tmp_path: Path) -> None:
    assert can_write(tmp_path)
    assert can_write(tmp_path / "not" / "there" / "yet")
    (tmp_path / "file").touch()
    assert not can_write(tmp_path / "file")
    assert not can_write(Path("/proc/nowhere"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "liverseg"

# Refuses imports the way an image does in which the packages are not installed.
REFUSE = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed here")
sys.meta_path.insert(0, Refused())
"""

CONTROLLER_SIDE = (
    "liverseg.cli",
    "liverseg.steps.tasks",
    "liverseg.steps.race.race",
    "liverseg.steps.data.scan",
    "liverseg.steps.data.scan_shards",
    "liverseg.steps.results.disagreement",
    "liverseg.steps.results.postprocess",
    "liverseg.steps.results.evaluate",
    "liverseg.steps.results.evaluate_external",
    "liverseg.steps.report.report",
    "liverseg.race.controller",
    "liverseg.race.executors.process",
    "pipelines.training",
)


def run(code: str, refused: set[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", REFUSE.format(refused=refused) + code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_controller_side_imports_where_torch_is_not_installed() -> None:
    code = "import importlib\n" + "\n".join(
        f"importlib.import_module({name!r})" for name in CONTROLLER_SIDE
    )
    done = run(code, {"torch", "safetensors"})
    assert done.returncode == 0, done.stderr


def test_the_block_on_torch_really_blocks() -> None:
    done = run("import liverseg.steps.training.train", {"torch", "safetensors"})
    assert "torch is not installed here" in done.stderr or "safetensors" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["study", "plan"], ["pipeline", "run", "--help"]])
def test_help_and_plan_need_nothing_heavy(words: list[str]) -> None:
    heavy = {"torch", "safetensors", "kfp", "SimpleITK", "matplotlib", "jinja2"}
    done = run(f"sys.argv = ['liverseg', *{words!r}]\nfrom liverseg.cli import main\nmain()", heavy)
    assert done.returncode == 0, done.stderr


def test_only_the_command_line_and_the_opening_of_a_store_read_the_environment() -> None:
    readers = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        if "cli" not in path.parts and _reads_environment(path)
    ]
    # Tasks and trainers get a URL; the credentials beside it come from the environment, and so
    # does all that a pod knows of itself.
    assert sorted(readers) == [
        Path("platform", "kubernetes_api.py"),
        Path("steps", "race", "trainer_backend.py"),
        Path("storage", "open.py"),
    ]


def _reads_environment(path: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )

"""Wrong programs, one at a time: whether the tests notice each of them.

    python -m tests.mutants [WORDS ...] [--processes 2]

tests/mutants.toml lists them. Each is tried in a copy of the checkout, against the tests that it
names. WORDS choose those whose name contains one of them. Exit code 1 where one survives, or where
the tests fail without any mutant.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from rich.progress import track

ROOT = Path(__file__).parent.parent
LIST = Path(__file__).with_suffix(".toml")
COPIED = ("liverseg", "components", "pipelines", "tests", "docs", "pyproject.toml", "README.md")
LIMIT_S = 600
"""A program that hangs is noticed too."""
TESTS_FAILED = 1
"""pytest's exit code; others say that a test file could not even be read."""


@dataclass(frozen=True)
class Mutant:
    """A replacement in one file."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """Return the file's text with the mutant; ValueError unless `old` occurs once."""
        count = text.count(self.old)
        if count != 1 or self.old == self.new:
            raise ValueError(f"'{self.name}': {count} times in {self.file}: {self.old}")
        return text.replace(self.old, self.new)


def mutants() -> list[Mutant]:
    """Return all of the list."""
    entries = tomllib.loads(LIST.read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**(entry | {"tests": tuple(entry["tests"])})) for entry in entries]


def copy_of_checkout(folder: Path) -> Path:
    """Return a copy in which a mutant disturbs nobody."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def outcome(copy: Path, tests: Sequence[str]) -> int | None:
    """Return pytest's exit code for these tests in a copy of the checkout; None: out of time."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    line = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            line, cwd=copy, env=environment, capture_output=True, check=False, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode


def survives(mutant: Mutant, copy: Path) -> bool:
    """Say whether no test notices the mutant."""
    file = copy / mutant.file
    text = file.read_text(encoding="utf-8")
    changed = mutant.applied(text)
    compile(changed, mutant.file, "exec")  # what Python cannot read would be no wrong program
    file.write_text(changed, encoding="utf-8")
    try:
        code = outcome(copy, mutant.tests)
    finally:
        file.write_text(text, encoding="utf-8")
    return code is not None and code != TESTS_FAILED


def main() -> None:
    """Try the mutants and print those that survive."""
    arguments = argparse.ArgumentParser(description=__doc__, prog="python -m tests.mutants")
    arguments.add_argument("words", nargs="*", help="only mutants whose name contains one of them")
    arguments.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = arguments.parse_args()
    words = [word.lower() for word in options.words]
    chosen = [m for m in mutants() if not words or any(w in m.name.lower() for w in words)]
    if not chosen:
        sys.exit(f"no mutant's name contains one of {words}")
    start = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(options.processes) as pool,
    ):
        copies: Queue[Path] = Queue()
        for number in range(options.processes):
            copies.put(copy_of_checkout(Path(folder, str(number))))
        copy = copies.get()
        tests = dict.fromkeys(test for mutant in chosen for test in mutant.tests)
        code = outcome(copy, list(tests))
        if code != 0:
            ended = f"do not end within {LIMIT_S} s" if code is None else "fail"
            sys.exit(f"the tests {ended} without any mutant: {' '.join(tests)}")
        copies.put(copy)

        def tried(mutant: Mutant) -> bool:
            copy = copies.get()
            try:
                return survives(mutant, copy)
            finally:
                copies.put(copy)

        results = list(track(pool.map(tried, chosen), "mutants", total=len(chosen)))
    surviving = [m.name for m, survived in zip(chosen, results, strict=True) if survived]
    for name in surviving:
        print(f"survives: {name}")
    seconds = time.monotonic() - start
    print(f"{len(chosen) - len(surviving)} of {len(chosen)} mutants killed in {seconds:.0f} s")
    sys.exit(1 if surviving else 0)


if __name__ == "__main__":
    main()

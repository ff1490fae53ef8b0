"""No identifier is one of the names that were replaced: one name for one thing."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from liverseg.settings import BASELINE_SEED

ROOT = Path(__file__).parents[1]
FOLDERS = ("bench", "components", "liverseg", "monitoring", "pipelines", "tests")
# Each with the names that replaced it; docs/architecture.md section 8 is the glossary.
REPLACED = {
    "there": "what it holds",
    "place": "what it is: SeedState, promotion_slots, TrainerBackend, device_index",
    "places": "promotion_slots",
    "Segment": "Span",
    "SegmentReader": "events, span_of",
    "Mark": "Sample",
    "pods.py": "job_manifest.py",
    "watch.py": "orphan_check.py",
    "delivery": "audit/",
    "accounts": "cost",
    "keep.py": "checkpoint_retention.py",
    "news": "race_logger",
    "RaceNews": "RaceLogger",
    "reuse_word": "cache_token",
    "Patience": "RetryPolicy",
    "patient_pool": "retrying_pool",
    "PatientPool": "RetryingPool",
    "RememberedStore": "CachingStore",
    "remedies": "error_hints",
    "several": "ensemble_report",
    "certain": "guaranteed",
    "certainty": "rung_bootstrap",
    "evaluate_files": "evaluate_external",
    "evaluation_files": "case_discovery",
    "single": "baseline",
    "straight": "baseline",
    "Access": "S3Credentials, KfpConnection",
    "access": "credentials, connection",
    "Account": "Cost",
    "account": "cost; of Kubernetes: service_account",
    "books": "costs",
    "MARK": "LOG_PREFIX",
    "Package": "CompiledPipeline",
    "kubeflow": "kfp",
    "kubeflow_options": "kfp_options",
}
# Nor is one of these a part of a name: they have no other meaning here.
REPLACED_PARTS = {
    "told": "named, reported, shown",
    "turn": "reconcile; of a mutex: lock",
    "epoch": "lease_generation",
    "silent": "stalled",
    "silence": "stalls",
    "patience": "retry_policy",
    "remembered": "caching",
    "remembering": "caching, or what it holds",
    "single_training": "baseline",
    "testimony": "audit/",
    "claims": "audit/",
    "evidence": "audit/",
    "verdict": "decision",
    "verdicts": "decisions",
    "witness": "audit/",
    "jury": "audit/",
}
# Nor of a variable's: in the name of a test or an error (`NotFound`) it is plain English.
REPLACED_PARTS_OF_VARIABLES = {"found": "what it holds"}


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of every variable, argument, attribute, function and class."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield line, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield line, name
            case ast.ClassDef(name=name):
                yield line, name
            case ast.keyword(arg=str(name)):
                yield line, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield line, name
            case ast.alias(name=name, asname=other):
                yield from ((line, part) for part in (*name.split("."), other or ""))


def replaced(path: str, module: ast.Module) -> list[str]:
    """Return a line `path:line: name -> what replaced it` for each name that was replaced."""
    file = Path(path)
    names = [(0, file.name), (0, file.stem), *identifiers(module)]
    return [
        f"{path}:{line}: {name} -> {other}" for line, name in names if (other := replacement(name))
    ]


def replacement(name: str) -> str | None:
    """Return what replaced a name, or the first part of it that was replaced; else None."""
    plain = name.strip("_")
    if plain in REPLACED:
        return REPLACED[plain]
    # `told_of` and `ToldOf` have the same parts.
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain).lower().removesuffix(".py")
    parts = dict(REPLACED_PARTS)
    if plain.islower() and not plain.startswith("test_"):
        parts |= REPLACED_PARTS_OF_VARIABLES
    return next((parts[part] for part in parts if f"_{part}_" in f"_{words}_"), None)


@cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of every file by its path from the root."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return {p.relative_to(ROOT).as_posix(): ast.parse(p.read_text("utf-8")) for p in files}


@pytest.mark.slow
def test_no_identifier_has_a_name_that_was_replaced() -> None:
    assert [line for path, tree in modules().items() for line in replaced(path, tree)] == []


@pytest.mark.parametrize(
    "source",
    [
        "told = 1",
        "def found(): pass",
        "def f(there): pass",
        "f(place=1)",
        "a.found = 1",
        "class Segment: pass",
        "class _Patience: pass",
        "with self._turn: pass",
        "from liverseg import silence",
        "from a import b as news",
        "from a import Segment as S",
        "import a.remedies",
        "f'{told}'",
        "for told, value in pairs: pass",
        "try: pass\nexcept ValueError as evidence: pass",
        "told_of = 1",
        "def test_it_is_told_once(): pass",
        "class Remembering: pass",
        "class TurnOrder: pass",
        "def test_the_single_training_ends(): pass",
        "cases_found = 1",
        "f(is_found=1)",
    ],
)
def test_a_replaced_name_is_seen_wherever_it_is_bound_or_used(source: str) -> None:
    assert len(replaced("a.py", ast.parse(source))) == 1


@pytest.mark.parametrize(
    "path", ["liverseg/race/pods.py", "liverseg/storage/remedies.py", "tests/race/test_patience.py"]
)
def test_a_file_with_a_replaced_name_is_seen(path: str) -> None:
    assert replaced(path, ast.parse(""))


@pytest.mark.parametrize(
    "source",
    [
        "mark = segment(pods)",
        "x = 'told' # found",
        "NotFound()",
        "def test_a_key_is_found(): pass",
        "returned = foundation = patient",
        "service_account = access_key",
    ],
)
def test_other_names_and_prose_are_free(source: str) -> None:
    assert replaced("a.py", ast.parse(source)) == []


def numbers(module: ast.Module) -> list[int]:
    """Return the lines in which the baseline's seed is a number."""
    constants = (node for node in ast.walk(module) if isinstance(node, ast.Constant))
    return [n.lineno for n in constants if type(n.value) is int and n.value == BASELINE_SEED]


@pytest.mark.slow
def test_the_seed_of_the_baseline_is_a_number_only_where_it_is_defined_and_pinned() -> None:
    lines = {path: at for path, tree in modules().items() if (at := numbers(tree))}
    assert {path: len(lines[path]) for path in sorted(lines)} == {
        "liverseg/settings/race.py": 1,
        "tests/test_settings.py": 1,
    }

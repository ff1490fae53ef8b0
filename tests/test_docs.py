"""The documents say what the code does: settings and what follows, files, codes, sections."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from liverseg import settings
from liverseg.core.evaluation import measures
from liverseg.core.race.halving import figures, schedule
from liverseg.core.volumes.grid import NetworkGrid
from liverseg.exit_codes import markdown_table
from liverseg.settings import PRESETS, Settings, to_mapping

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
METHOD = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
SECTIONS = {
    name: [int(number) for number in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)]
    for name, text in (("method", METHOD), ("architecture", ARCHITECTURE))
}
TOPICS = {
    name: values for name, values in to_mapping(Settings()).items() if isinstance(values, dict)
}
SETTINGS = [f"{topic}.{name}" for topic, values in TOPICS.items() for name in values]
FOLDERS = (
    "bench", "components", "docs", "images", "liverseg", "manifests", "monitoring", "pipelines",
    "tests",
)  # fmt: skip
# Any white space, comment signs and a comma may stand between the file and the number.
CITATION = re.compile(
    r"docs/(method|architecture)\.md[\s#,(\[\])]+sections?\s+#?\s*(\d+)(?:\s+and\s+(\d+))?"
)


def rows(header: str, text: str = METHOD) -> list[list[str]]:
    """The cells of every row of every table whose header has this first cell."""
    result = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        cells = [[c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines()]
        if cells[0][0] == header:
            result += cells
    assert result, f"there is no table '{header}'"
    return result


def value(cell: str) -> Any:
    """A value as `--set` takes it: JSON, or text."""
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def documented() -> dict[str, list[str]]:
    entries = [row for row in rows("setting") if row[0].startswith("`")]
    names = [row[0].strip("`") for row in entries]
    assert len(names) == len(set(names)), "a setting is documented twice"
    return dict(zip(names, (row[1:] for row in entries), strict=True))


def test_every_setting_and_no_other_is_in_the_method() -> None:
    assert sorted(documented()) == sorted(SETTINGS)


def test_the_columns_of_the_settings_are_the_presets() -> None:
    headers = [row for row in rows("setting") if row[0] == "setting"]
    assert {tuple(row) for row in headers} == {("setting", *PRESETS, "meaning")}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_has_the_presets_values_and_a_meaning(name: str) -> None:
    topic, _, field = name.partition(".")
    *values, meaning = documented()[name]
    assert [value(cell) for cell in values] == [
        to_mapping(preset)[topic][field] for preset in PRESETS.values()
    ]
    assert meaning.endswith(".")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_sizes_are_those_of_the_network(preset: str) -> None:
    chosen = PRESETS[preset]
    grid = NetworkGrid(chosen.network)
    patch = chosen.training.patch
    sizes = (
        patch,
        grid.output_size(patch),
        grid.halo,
        grid.alignment,
        grid.input_size(grid.smallest_output),
    )
    expected = [f"`{preset}`", *(str(list(size)) for size in sizes)]
    assert expected in rows("preset")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_rungs_are_those_of_the_schedule(preset: str) -> None:
    race = PRESETS[preset].race
    rungs = schedule(race.seeds, race.minimum_iterations, race.maximum_iterations, race.eta)
    shown = ", ".join(f"{rung.size} x {rung.iterations}" for rung in rungs)
    total = str(figures(rungs, 1, 1.0).iterations)
    assert [f"`{preset}`", shown, total] in rows("preset")


def test_every_version_that_results_depend_on_is_in_the_method() -> None:
    versions = [name for m in (settings, measures) for name in vars(m) if name.endswith("_VERSION")]
    assert len(versions) == 4
    assert [name for name in versions if f"`{name}`" not in METHOD] == []


def test_the_readme_has_the_table_of_the_exit_codes() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^\| exit code \|(?:.*\n)(?:^\|.*\n)+", readme, re.MULTILINE)
    assert table is not None
    assert table[0] == markdown_table()


def named_files() -> set[str]:
    """Every path that docs/architecture.md names: in backticks from the root, in links from docs/.

    Keys of a store and paths that people give have a part in <> or another beginning.
    """
    in_code = re.findall(r"`([^`\s<>]+/[^`\s<>]*)`", ARCHITECTURE)
    paths = {path for path in in_code if path.startswith(tuple(f"{f}/" for f in FOLDERS))}
    return paths | {f"docs/{link}" for link in re.findall(r"\]\(([^):#]+)\)", ARCHITECTURE)}


def test_every_file_that_the_architecture_names_exists() -> None:
    paths = named_files()
    assert len(paths) > 50
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


WHERE = [
    (file, name)
    for question in rows("question", ARCHITECTURE)[2:]
    for file, names in re.findall(r"`([^`]+/[^`]+)`(?:: ((?:`[^`]+`(?:, )?)+))?", question[1])
    for name in re.findall(r"`([^`]+)`", names)
]


@pytest.mark.parametrize(("file", "name"), WHERE)
def test_what_is_looked_for_is_in_the_file_that_is_named(file: str, name: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    for part in name.split("."):
        assert re.search(rf"^\s*(?:def {part}\b|class {part}\b|{part}\b.* = )", text, re.MULTILINE)


def test_the_glossary_is_sorted_and_explains_a_word_once() -> None:
    words = [row[0].lower() for row in rows("word", ARCHITECTURE)[2:]]
    assert words == sorted(set(words))


@pytest.mark.parametrize("document", SECTIONS)
def test_sections_are_numbered_from_one(document: str) -> None:
    assert SECTIONS[document]
    assert list(range(1, len(SECTIONS[document]) + 1)) == SECTIONS[document]


def citations() -> Iterator[tuple[str, str, int]]:
    """Every section of a document that a file names; docs/method.md's own references too."""
    for number in re.findall(r"\bsection (\d+)", METHOD):
        yield "docs/method.md", "method", int(number)
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    for path in [*paths, *ROOT.glob("*.md")]:
        if path.suffix in (".py", ".md", ".toml", ".yaml"):
            for document, *numbers in CITATION.findall(path.read_text(encoding="utf-8")):
                for number in filter(None, numbers):
                    yield str(path.relative_to(ROOT)), document, int(number)


def test_every_section_that_is_cited_exists() -> None:
    cited_sections = list(citations())
    assert {document for _, document, _ in cited_sections} == set(SECTIONS)
    assert [cited for cited in cited_sections if cited[2] not in SECTIONS[cited[1]]] == []


def test_a_citation_is_found_across_lines() -> None:
    text = "(docs/method.md section 3) docs/method.md\n# sections 7 and 12"
    assert CITATION.findall(text) == [("method", "3", ""), ("method", "7", "12")]


def test_every_setting_but_the_preset_s_name_belongs_to_a_topic() -> None:
    assert set(TOPICS) == {f.name for f in dataclasses.fields(Settings)} - {"preset"}

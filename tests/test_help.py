"""What every command's help says, and which commands there are."""

import re
from collections.abc import Iterator

import click
import pytest

from liverseg import errors
from liverseg.cli.root import root
from liverseg.exit_codes import ExitCode
from tests.command_line import CommandLine


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
        "postprocess", "evaluate", "report", "metrics",
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

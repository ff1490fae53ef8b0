"""How results and progress are shown: tables and bars on a terminal, plain lines elsewhere."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from liverseg.platform.output_encoding import printable

# Paths and names come from people: nothing in them is markup.
console = Console(highlight=False, markup=False)
error_console = Console(stderr=True, highlight=False, markup=False)
Report = Callable[[str, int, int], None]


class _Rate(ProgressColumn):
    """Steps a second; rich's own column shows it only while the total is unknown."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.2g}/s")


@contextmanager
def progress_bar() -> Iterator[Report]:
    """Give a callback (what, done, total) that draws a bar with rate and remaining time."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=error_console, disable=not error_console.is_terminal
    ) as progress:
        task = progress.add_task("", total=None)

        def report(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        yield report


@contextmanager
def shown_log(as_json: bool) -> Iterator[None]:
    """Show what steps log while they run, each line with the time; beside JSON on stderr."""
    log = logging.getLogger("liverseg")
    handler = logging.StreamHandler(sys.stderr if as_json else sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object, for machines; where the output takes ASCII only, in ASCII."""
    text = json.dumps(values, indent=1, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(values, indent=1)
    print(text)  # noqa: T201 - rich would wrap it


def table_of(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a table; every cell is plain text."""
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(cell), console.encoding)) for cell in row))
    return table


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; every cell is plain text."""
    console.print(table_of(title, columns, rows))

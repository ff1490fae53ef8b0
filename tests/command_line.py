"""A pytest plugin: the fixture `liverseg`, the command line in this process."""

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from liverseg.cli import main


@dataclass
class Done:
    code: int
    out: str
    err: str


class CommandLine:
    """Runs `liverseg` in this process, as the console script does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["liverseg", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = self._capsys.readouterr()
        return Done(code, out, err)


@pytest.fixture
def liverseg(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    monkeypatch.delenv("LIVERSEG_STORE", raising=False)
    # `main` sets it, for what it starts; the tests after this one are not to have it.
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    before = signal.getsignal(signal.SIGTERM)
    yield CommandLine(monkeypatch, capsys)
    signal.signal(signal.SIGTERM, before)

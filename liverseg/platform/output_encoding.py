"""Printing that raises for no character: terminals without UTF-8, file names that are not UTF-8."""

import codecs
import sys
from io import TextIOWrapper

from liverseg.platform.file_names import readable

_HANDLER = "liverseg"
# What an output in ASCII gets for the characters that we print ourselves, and rich's ellipsis.
_ASCII = {"±": "+/-", "…": "..."}


def print_every_character() -> None:
    """Let standard output and error replace what their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def printable(text: str, encoding: str) -> str:
    """Return the text as an output of this encoding shows it, for what depends on its length."""
    return text.encode(encoding, _HANDLER).decode(encoding)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = "".join(_ASCII.get(c) or readable(c) for c in error.object[error.start : error.end])
    return text.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error(_HANDLER, _replaced)

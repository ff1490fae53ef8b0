"""Names of files, which are bytes: those that are not UTF-8 as text that can be shown and stored.

Python has such a byte as a lone surrogate (PEP 383), which no terminal, JSON reader or page takes.
"""

from pathlib import Path


def readable(text: str) -> str:
    r"""Return the text with every byte that is not UTF-8 written out, as \xe4."""
    try:
        stored = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character out of a JSON file, which stands for no byte
        stored = text.encode("utf-8", "backslashreplace")
    return stored.decode("utf-8", "backslashreplace")


def undecodable(folder: Path, name: str) -> bool:
    """Return whether `name` is what `readable` makes of another name in the folder."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return False
    return name not in names and any(readable(other) == name for other in names)

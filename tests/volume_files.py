"""Volumes as files, written as a command writes them."""

from pathlib import Path

from liverseg.core.volumes.volume import Volume
from liverseg.imaging.files import encoded
from liverseg.storage.files import write_files


def write(path: Path, volume: Volume) -> None:
    write_files({path: encoded(path, volume)})

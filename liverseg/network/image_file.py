"""The images of the training cases in one temporary file, mapped into memory.

Mapped pages stay in memory while there is room. A trainer whose memory is limited drops them and
reads them again, where memory of its own would end it.
"""

import os
import tempfile
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from liverseg.core.volumes.grid import Size
from liverseg.core.volumes.volume import FloatArray


@dataclass(frozen=True)
class StoredImage:
    """Where an image lies in the file, in voxels."""

    first: int
    shape: Size

    def view(self, values: FloatArray) -> FloatArray:
        """Return the image (z, y, x), given all values of the file."""
        return values[self.first : self.first + int(np.prod(self.shape))].reshape(self.shape)


def image_file() -> BinaryIO:
    """Open a file without a name in the folder of temporary files.

    One for all cases: each map of a file keeps a descriptor open, and a process may have 1024.
    """
    return tempfile.TemporaryFile(prefix="liverseg-", buffering=0)


def append(file: BinaryIO, image: FloatArray) -> StoredImage:
    """Write an image (z, y, x) at the end of the file.

    Raises:
        OSError: There is no room in the folder of temporary files.
    """
    start = file.seek(0, os.SEEK_END)
    z, y, x = image.shape
    # Written, not assigned through a map: there a full disk is a signal that ends the process.
    left = np.ascontiguousarray(image).reshape(-1).view(np.uint8).data
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror} at {(start + image.nbytes) // 1000:,} kB of images of training "
            "cases (the variable TMPDIR names another folder)",
            tempfile.gettempdir(),
        ) from error
    return StoredImage(start // image.itemsize, (z, y, x))


def mapped(file: BinaryIO) -> FloatArray:
    """Return all values of the file, read-only; they stay valid when it is closed."""
    values: FloatArray = np.asarray(np.memmap(file, np.float32, "r"))
    return values

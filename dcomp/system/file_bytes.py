"""The bytes of a file, read a range at a time.

A file that is truncated meanwhile raises an error; a memory map would end the process with a signal.
"""

import os
import weakref
from pathlib import Path

import numpy as np

from dcomp.errors import DcompError, reading


class FileBytes:
    """An open file: its size when it was opened, and ranges of its bytes."""

    def __init__(self, path: Path, error: type[DcompError]) -> None:
        """Open a file.

        Args:
            path: of the file.
            error: the class of error to raise where the file cannot be read.

        Raises:
            error: it cannot be opened.
        """
        self.path = path
        self._error = error
        with reading(path, error):
            self._handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self._handle)
        self.nbytes = os.fstat(self._handle).st_size

    def fileno(self) -> int:
        """Return the file's descriptor, which is closed with this object."""
        return self._handle

    def read(self, offset: int, size: int) -> np.ndarray:
        """Read `size` bytes from `offset` on into new memory; uint8, shape (size,), read-only.

        Raises:
            error: the file ends before them, or cannot be read.
        """
        buffer = np.empty(size, np.uint8)
        view, done = buffer.data, 0
        while done < size:
            with reading(self.path, self._error):
                count = os.preadv(self._handle, [view[done:]], offset + done)
            if not count:
                raise self._error(f"{self.path} ends at byte {offset + done:,}: it was cut while it was read")
            done += count
        buffer.flags.writeable = False
        return buffer

"""Standard output and error that a reader may close while the program runs."""

import errno
import io
import os
import sys
from typing import TextIO


class Output(io.FileIO):
    """A writable file descriptor that ignores writes after its reader has closed it."""

    def __init__(self, fd: int):
        super().__init__(fd, "w", closefd=False)
        self.is_lost = False
        # Writes to a terminal whose window was closed fail with EIO.
        self._reader_errors = (errno.EPIPE, *([errno.EIO] if os.isatty(fd) else []))

    def write(self, data, /) -> int:
        """Writes bytes; does nothing if an earlier write failed.

        Returns:
          The number of given bytes, as if they were written.

        Raises:
          OSError: the first failed write, unless the reader has closed the file.
        """
        if not self.is_lost:
            try:
                return super().write(data)
            except OSError as error:
                self.is_lost = True
                if error.errno not in self._reader_errors:
                    raise
        return memoryview(data).nbytes


def open_output(fd: int) -> TextIO:
    """Returns a text file for a file descriptor, which is flushed after each line.

    Characters that the encoding lacks are escaped. Closing the file leaves the
    descriptor open.
    """
    encoding = getattr(sys.stdout, "encoding", None)
    buffer = io.BufferedWriter(Output(fd))
    return io.TextIOWrapper(
        buffer, encoding, errors="backslashreplace", line_buffering=True
    )


def is_lost(file: TextIO) -> bool:
    """Returns whether a write to a file of `open_output` has failed."""
    raw = getattr(getattr(file, "buffer", None), "raw", None)
    return isinstance(raw, Output) and raw.is_lost


def open_standard_streams() -> None:
    """Replaces sys.stdout and sys.stderr by files of `open_output`.

    Closed descriptors of 0, 1 and 2 are opened on /dev/null first: otherwise, the next
    file that is opened would get such a number and receive printed text.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = open_output(1), open_output(2)

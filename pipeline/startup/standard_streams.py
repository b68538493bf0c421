"""Standard output and error, for a reader that may leave before the program does."""

import errno
import io
import os
import sys
from typing import TextIO


class Output(io.FileIO):
    """A file descriptor to write to; what is written after its reader left is lost."""

    def __init__(self, fd: int):
        super().__init__(fd, "w", closefd=False)
        self.is_lost = False
        # A terminal whose window was closed answers with EIO.
        self._gone = (errno.EPIPE, *([errno.EIO] if os.isatty(fd) else []))

    def write(self, data, /) -> int:
        """Writes bytes, unless an earlier write failed.

        Raises:
          OSError: for another reason than a reader that left; once.
        """
        if not self.is_lost:
            try:
                return super().write(data)
            except OSError as error:
                self.is_lost = True
                if error.errno not in self._gone:
                    raise
        return memoryview(data).nbytes


def open_output(fd: int) -> TextIO:
    """Returns a file descriptor as text, whose lines are written at once.

    What the encoding does not have is escaped. The descriptor stays open.
    """
    encoding = getattr(sys.stdout, "encoding", None)
    buffer = io.BufferedWriter(Output(fd))
    return io.TextIOWrapper(
        buffer, encoding, errors="backslashreplace", line_buffering=True
    )


def is_lost(file: TextIO) -> bool:
    """Whether something that was written to the file did not reach its reader."""
    raw = getattr(getattr(file, "buffer", None), "raw", None)
    return isinstance(raw, Output) and raw.is_lost


def open_standard_streams() -> None:
    """Makes standard output and error such files; those that are closed are null.

    A file that is opened later would get a closed one's number, and what is printed.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = open_output(1), open_output(2)

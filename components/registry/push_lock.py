"""The lock of a folder of versions, and the description of the process that holds it.

Any process can hold the lock, also one that is no push, such as `flock`. So the wait
for it has an end, and the error names the holder.
"""

import contextlib
import os
import pathlib
import socket
import sys
from collections.abc import Iterator

import filelock

from model.errors import PipelineError
from model.files import filesystems, regular_files

LOCK = ".pushing.lock"

# Seconds to wait for the lock. A push holds it while it copies and syncs one model: ten
# minutes are enough for 10 GB on a network disk.
_TIMEOUT = 600.0


class PushLockError(PipelineError):
    """Another process holds the lock of a folder of versions for too long."""


@contextlib.contextmanager
def hold_lock(folder: str) -> Iterator[None]:
    """Holds the lock of a folder of versions while the block runs.

    Args:
      folder: the local folder of the versions, which must exist.

    Raises:
      PushLockError: another process has held the lock for ten minutes.
      OSError: the lock's file cannot be written.
    """
    path = os.path.join(folder, LOCK)
    lock = filelock.FileLock(path, mode=filesystems.FILE)
    try:
        lock.acquire(timeout=_TIMEOUT)
    except filelock.Timeout:
        raise PushLockError(
            f"{path} has been locked for {_TIMEOUT:.0f} seconds by {_find_holder(path)}"
            ": wait until it ends, or end it, and repeat the command"
        ) from None
    try:
        # For pushes of other hosts and containers, which do not see this process.
        command = _join_command(sys.orig_argv)
        _write(path, f"process {os.getpid()} on {socket.gethostname()} ({command})")
        yield
        _write(path, "")
    finally:
        lock.release()


def _find_holder(path: str) -> str:
    """Returns a description of the process that holds a lock, as far as it is known."""
    number = _find_process(path)
    if number is not None:
        with contextlib.suppress(OSError):
            command = pathlib.Path(f"/proc/{number}/cmdline").read_bytes()
            arguments = command.decode(errors="replace").rstrip("\0").split("\0")
            return (
                f"process {number} on {socket.gethostname()} "
                f"({_join_command(arguments)})"
            )
        return f"process {number} on {socket.gethostname()}"
    with contextlib.suppress(OSError, regular_files.IrregularFileError):
        text = regular_files.read_bytes(path)[:1000].decode(errors="replace").strip()
        if text:
            return f"{text}, as the file says"
    return "a process that this host does not show"


def _find_process(path: str) -> int | None:
    """Returns the id of the process with a lock on a file; None if it is not known."""
    try:
        status = os.stat(path)
        lines = pathlib.Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    for line in lines:
        # Such as `1: FLOCK  ADVISORY  WRITE 4711 08:01:262145 0 EOF`. A waiting lock
        # has `->` after the number of the line. The id of a process in another
        # container is 0 or -1.
        parts = line.split()
        if len(parts) < 6 or parts[1] == "->":
            continue
        if parts[5] == f"{device}:{status.st_ino}" and int(parts[4]) > 0:
            return int(parts[4])
    return None


def _join_command(arguments: list[str]) -> str:
    """Returns a command as one line of printable text, of at most 200 characters."""
    line = " ".join(arguments)
    return "".join(c if c.isprintable() else "?" for c in line)[:200]


def _write(path: str, text: str) -> None:
    with contextlib.suppress(OSError):  # the text is only for a message
        pathlib.Path(path).write_text(text, encoding="utf-8")

"""The lock of a root: one run at a time, because SQLite metadata allow one writer.

The kernel releases the lock when its process ends, even after SIGKILL.
"""

import contextlib
import dataclasses
import datetime
import json
import pathlib
import time
from collections.abc import Callable, Iterator

import filelock
import pydantic

from model.errors import PipelineError
from model.files import atomic_write, regular_files
from pipeline.runs import process

_TRY_EVERY = 0.5  # seconds between two tries to get the lock
_OWNER_TIMEOUT = 1.0  # seconds to wait until a lock's owner has written its file


class LockedError(PipelineError):
    """Another process holds the root's lock; the message has its process id."""


@dataclasses.dataclass(frozen=True)
class Owner:
    """The process that holds a root's lock."""

    process: process.Process
    started: str  # ISO 8601, with the zone

    def __str__(self) -> str:
        when = datetime.datetime.fromisoformat(self.started)
        pid, host = self.process.pid, self.process.host
        return f"process {pid} on {host}, started {when:%Y-%m-%d %H:%M:%S %Z}"


@contextlib.contextmanager
def hold_lock(
    root: pathlib.Path, *, should_wait: bool, print_line: Callable[[str], None]
) -> Iterator[None]:
    """Holds a root's lock while the block runs.

    Args:
      root: the folder of the state of local runs; it is made if it does not exist.
      should_wait: whether to wait while another process holds the lock.
      print_line: prints a line for people about the process that holds the lock.

    Raises:
      LockedError: another process holds the lock, and `should_wait` is False.
      OSError: the folder cannot be written to.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(root / ".lock")
    _acquire(lock, root, should_wait=should_wait, print_line=print_line)
    owner_file = _owner_file(root)
    try:
        started = datetime.datetime.now().astimezone().isoformat()
        owner = Owner(process.current(), started)
        atomic_write.write(owner_file, json.dumps(dataclasses.asdict(owner)) + "\n")
        yield
    finally:
        owner_file.unlink(missing_ok=True)
        lock.release()


def _acquire(
    lock: filelock.BaseFileLock,
    root: pathlib.Path,
    *,
    should_wait: bool,
    print_line: Callable[[str], None],
) -> None:
    printed = None
    timeout = 0.0
    while True:
        try:
            lock.acquire(timeout=timeout)
        except filelock.Timeout:
            owner = describe_owner(root)
            if not should_wait:
                raise LockedError(
                    f"another run is using {root} ({owner}): wait until it ends (run "
                    "--wait does that), or choose another --root"
                ) from None
            if owner != printed:
                print_line(f"waiting for another run that is using {root} ({owner})")
                printed = owner
            timeout = _TRY_EVERY
        else:
            return


def describe_owner(
    root: pathlib.Path,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Returns the process that holds a root's lock, as text, or `unknown`.

    The owner writes its process id into a file after it gets the lock, and the file of
    a killed owner stays. So this waits up to 1 second for the file of a live process.
    """
    end = clock() + _OWNER_TIMEOUT
    while clock() < end:
        owner = _read_owner(root)
        if owner is not None and not owner.process.has_ended():
            return str(owner)
        sleep(0.05)
    return "unknown"


def _read_owner(root: pathlib.Path) -> Owner | None:
    path = _owner_file(root)
    try:
        return pydantic.TypeAdapter(Owner).validate_json(regular_files.read_bytes(path))
    except (OSError, ValueError, regular_files.IrregularFileError):
        return None


def _owner_file(root: pathlib.Path) -> pathlib.Path:
    return root / "running.json"

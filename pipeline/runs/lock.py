"""One run at a time on a root, because its SQLite metadata allow one writer.

The kernel frees the lock of a process that ends, however it ends.
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
from model.files import atomic_write
from pipeline.runs import process

_TRY_EVERY = 0.5  # seconds between two tries to get the lock
_NAMED_WITHIN = 1.0  # seconds in which a process that got the lock writes who it is


class LockedError(PipelineError):
    """Another process uses the root; the message says which."""


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
      root: the folder; it is made if it does not exist.
      should_wait: whether to wait for a process that holds the lock, or to raise.
      print_line: prints the process that this waits for.

    Raises:
      LockedError: another process holds the lock.
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
    """Returns which process holds a root's lock, or `unknown`.

    A process that has just got the lock may not have written who it is yet, and a dead
    one may have left its file: this waits a moment for the file of a process that
    lives.
    """
    end = clock() + _NAMED_WITHIN
    while clock() < end:
        owner = _read_owner(root)
        if owner is not None and not owner.process.is_gone():
            return str(owner)
        sleep(0.05)
    return "unknown"


def _read_owner(root: pathlib.Path) -> Owner | None:
    path = _owner_file(root)
    try:
        return pydantic.TypeAdapter(Owner).validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def _owner_file(root: pathlib.Path) -> pathlib.Path:
    return root / "running.json"

"""One run at a time on a root: its metadata, in SQLite, take one writer.

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

from model.files import atomic_write
from pipeline.runs import process

_LOOK = 0.5  # seconds between looks at whom one waits for
_SETTLE = 1.0  # seconds in which one that has just got the lock says who it is


class LockedError(RuntimeError):
    """Another process is using the root; the message says which."""


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who holds a root's lock."""

    process: process.Process
    started: str  # ISO 8601, with the zone

    def __str__(self) -> str:
        when = datetime.datetime.fromisoformat(self.started)
        pid, host = self.process.pid, self.process.host
        return f"process {pid} on {host}, started {when:%Y-%m-%d %H:%M:%S %Z}"


@contextlib.contextmanager
def held(root: pathlib.Path, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Keeps a root to this process while the block runs.

    Args:
      root: the folder; made if it is not there.
      wait: until another that holds it ends; or else raise.
      say: is told for whom this waits.

    Raises:
      LockedError: another process holds it.
      OSError: the folder can't be written to.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(root / ".lock")
    _acquire(lock, root, wait, say)
    owner = _owner_file(root)
    try:
        started = datetime.datetime.now().astimezone().isoformat()
        us = {"process": dataclasses.asdict(process.this()), "started": started}
        atomic_write.write(owner, json.dumps(us) + "\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _acquire(
    lock: filelock.BaseFileLock,
    root: pathlib.Path,
    wait: bool,
    say: Callable[[str], None],
) -> None:
    told = None
    timeout = 0.0
    while True:
        try:
            lock.acquire(timeout=timeout)
        except filelock.Timeout:
            who = _who(root)
            if not wait:
                raise LockedError(
                    f"another run is using {root} ({who}): wait until it ends (run "
                    "--wait does that), or choose another --root"
                ) from None
            if who != told:
                say(f"waiting for another run that is using {root} ({who})")
                told = who
            timeout = _LOOK
        else:
            return


def _who(root: pathlib.Path) -> str:
    """Returns in words who holds the lock; not whom a dead process's file names."""
    end = time.monotonic() + _SETTLE
    while time.monotonic() < end:
        found = _owner(root)
        if found is not None and not found.process.is_gone():
            return str(found)
        time.sleep(0.05)
    return "unknown"


def _owner(root: pathlib.Path) -> Owner | None:
    try:
        return pydantic.TypeAdapter(Owner).validate_json(_owner_file(root).read_bytes())
    except (OSError, ValueError):
        return None


def _owner_file(root: pathlib.Path) -> pathlib.Path:
    return root / "running.json"

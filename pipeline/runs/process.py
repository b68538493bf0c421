"""The identity of a process, and the ends of this process and of others."""

import atexit
import contextlib
import ctypes
import dataclasses
import os
import pathlib
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

_PR_SET_CHILD_SUBREAPER = 36  # an option of prctl(2)
_PASSES = 10  # through the list of processes, to kill those that start meanwhile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """The identity of a process on this machine or another.

    The process id alone does not identify it, because the kernel reuses ids.
    """

    pid: int
    host: str
    born: str  # id of the machine's boot, and clock ticks from boot to start

    def has_ended(self) -> bool:
        """Returns whether the process has ended; False if it is on another host."""
        return self.host == platform.node() and _read_start(self.pid) != self.born


def current() -> Process:
    """Returns the identity of this process."""
    return Process(pid=os.getpid(), host=platform.node(), born=_read_start(os.getpid()))


def kill_by_environment(name: str, value: str) -> None:
    """Kills each process that has a variable with this value in its environment.

    A process gets its environment from its parent, and keeps it when it leaves the
    parent's process group or when the parent ends. Processes that have cleared their
    environment or belong to another user are not killed. Without /proc, as on macOS,
    this does nothing.
    """
    entry = f"{name}={value}".encode()
    for _ in range(_PASSES):
        has_killed = False
        for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if entry in path.read_bytes().split(b"\0"):
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    has_killed = True
        if not has_killed:
            return


@contextlib.contextmanager
def adopted_orphans() -> Iterator[Callable[[], None]]:
    """Makes this process the parent of all orphans among its descendants.

    A process whose parent has ended gets the system's first process as its parent, so
    that nothing shows where it came from. While the block runs, it gets this process.
    Only Linux can do that; elsewhere this does nothing.

    Yields:
      A function that kills all descendants of this process that were not there before
      the block, whatever their process group, session and environment.
    """
    before = _list_descendants(os.getpid())
    killed: set[int] = set()

    def kill() -> None:
        for _ in range(_PASSES):
            found = _list_descendants(os.getpid()) - before
            killed.update(found)
            for pid in found:
                with contextlib.suppress(OSError):  # it has ended, or is another user's
                    os.kill(pid, signal.SIGKILL)
            if not found:
                return

    _set_subreaper(True)
    try:
        yield kill
    finally:
        _set_subreaper(False)
        for pid in killed:  # those that were adopted are to be waited for
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _set_subreaper(is_subreaper: bool) -> None:
    """Sets whether orphans among the descendants become children of this process."""
    with contextlib.suppress(AttributeError, OSError):  # not on macOS
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(is_subreaper), 0, 0, 0)


def _list_descendants(pid: int) -> set[int]:
    """Returns the ids of a process's children, their children and so on.

    Processes that have ended are not among them. Without /proc there are none.
    """
    children: dict[int, list[int]] = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            state, parent = _read_stat(path)[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(path.parent.name))
    found: set[int] = set()
    left = [pid]
    while left:
        new = children.get(left.pop(), [])
        found.update(new)
        left += new
    return found


def run_and_exit(main: Callable[[], int]) -> NoReturn:
    """Calls `main`, and ends this process with the exit code that it returns.

    Python's own exit is skipped: it frees 1.7 million objects of TensorFlow, TFX and
    Beam one by one, which takes 6 seconds on an idle machine. `os._exit` leaves that to
    the kernel. The functions that are registered with `atexit` run before that, because
    they remove temporary folders and close logs.
    """
    try:
        code = main()
    except SystemExit as error:  # from the parser of the command line
        code = _code(error)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    try:
        atexit._run_exitfuncs()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            try:
                stream.flush()
            except (OSError, ValueError):
                # The disk is full, or the reader has closed the pipe.
                code = code or 1
    finally:
        os._exit(code)


def _code(error: SystemExit) -> int:
    """Returns the exit code that Python gives for a SystemExit."""
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


def _read_start(pid: int) -> str:
    """Returns the boot id and the start time of a process; empty if it has ended.

    A zombie has ended, too.

    Source: proc(5), /proc/PID/stat: the state is field 3, the start time field 22.
    """
    try:
        fields = _read_stat(pathlib.Path(f"/proc/{pid}/stat"))
        boot_id = pathlib.Path("/proc/sys/kernel/random/boot_id")
        boot = boot_id.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    state, ticks = fields[0], fields[19]
    return "" if state in "ZX" else f"{boot} {ticks}"


def _read_stat(path: pathlib.Path) -> list[str]:
    """Returns the fields of /proc/PID/stat from the process's state on.

    Source: proc(5).
    """
    # The command name before them, in parentheses, may have spaces and any bytes.
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.rsplit(")", 1)[1].split()

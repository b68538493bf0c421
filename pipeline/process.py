"""Processes, by more than their numbers: the kernel gives those out again."""

import dataclasses
import os
import pathlib
import platform


@dataclasses.dataclass(frozen=True)
class Process:
    """A process, on this machine or another."""

    pid: int
    host: str
    born: str  # the machine's start and the process's, as the kernel counts

    def is_gone(self) -> bool:
        """Whether it has ended; of another host's process that can't be told: False."""
        return self.host == platform.node() and _born(self.pid) != self.born


def this() -> Process:
    """Returns this process."""
    return Process(os.getpid(), platform.node(), _born(os.getpid()))


def _born(pid: int) -> str:
    """Returns when a process was born; empty if there is none, or only a zombie.

    Source: proc(5), /proc/PID/stat: the state is field 3, the start time field 22.
    """
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        boot = (
            pathlib.Path("/proc/sys/kernel/random/boot_id")
            .read_text(encoding="utf-8")
            .strip()
        )
    except OSError:
        return ""
    fields = stat.rsplit(")", 1)[1].split()  # the name before may hold anything
    state, ticks = fields[0], fields[19]
    return "" if state in "ZX" else f"{boot} {ticks}"

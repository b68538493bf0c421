"""Real disks that are small or full, and real files that cannot be written.

Mounting needs a privilege; without the privilege a test is skipped.
"""

import contextlib
import errno
import pathlib
import subprocess
from collections.abc import Iterator

import pytest


def _run(*command: object) -> None:
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        pytest.skip(f"`{command[0]}` is not permitted here: {result.stderr.strip()}")


@contextlib.contextmanager
def small(folder: pathlib.Path, megabytes: float) -> Iterator[pathlib.Path]:
    """Mounts a disk of the given size at a folder, and yields the folder."""
    folder.mkdir(exist_ok=True)
    size = f"size={int(megabytes * 1024)}k"
    _run("mount", "-t", "tmpfs", "-o", size, "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: pathlib.Path, leave: int = 0) -> pathlib.Path:
    """Fills a folder's disk except `leave` bytes; returns the file to remove."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        if leave:
            file.truncate(max(file.tell() - leave, 0))
    return path


@contextlib.contextmanager
def read_only(file: pathlib.Path) -> Iterator[None]:
    """Makes a file read-only, even for root, until the `with` block ends."""
    _run("mount", "--bind", file, file)
    try:
        _run("mount", "-o", "remount,bind,ro", file)
        yield
    finally:
        subprocess.run(["umount", str(file)], check=True)

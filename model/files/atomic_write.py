"""Writes a small file whole or not at all."""

import os
import pathlib


def write(path: pathlib.Path, text: str, *, mode: int | None = None) -> None:
    """Writes beside, syncs, then renames: a reader sees the old text or the new one.

    Args:
      path: the file.
      text: its content.
      mode: its permissions; None for those that the umask leaves.

    Raises:
      OSError: it could not be written; what was there is there still.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # else a power cut could still take the name back
    finally:
        os.close(folder)

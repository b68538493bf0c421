"""The atomic write of a small file: a reader sees the old content or the new one."""

import os
import pathlib


def write(path: pathlib.Path, text: str, *, mode: int | None = None) -> None:
    """Writes a text file atomically, and makes its folder if it is missing.

    The text goes to a temporary file in the same folder, which is synced to the disk
    and then renamed.

    Args:
      path: the file to write or replace.
      text: the new content.
      mode: the file's permissions; None for the default under the umask.

    Raises:
      OSError: the file could not be written; its old content is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # else a power cut could undo the rename
    finally:
        os.close(folder)

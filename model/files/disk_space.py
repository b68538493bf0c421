"""Full disks: recognizes the errors that they cause, and describes them."""

import errno
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

_WORDS = ("No space left on device", "database or disk is full")


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error; some libraries only say so in words."""
    for each in _chain(error):
        full = getattr(each, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or any(words in str(each) for words in _WORDS):
            return True
    return False


def full_message(folder: pathlib.Path, needed: int | None = None) -> str:
    """Returns what to tell: the folder, the bytes needed and free, what to do."""
    free = shutil.disk_usage(folder).free
    need = f"{needed:,} bytes are needed" if needed else "the disk is full"
    return (
        f"{folder}: {need}, {free:,} bytes are free; free some space or choose "
        "another data folder"
    )


def describe_full(error: BaseException, folders: Sequence[str]) -> str:
    """Returns which folder's disk is full, and how much is free there now, in words.

    That is the folder whose file the error names. Many errors name none: then it is the
    one with the least space, though what was on the full disk may be removed by now.

    Args:
      error: for which `is_full` is true.
      folders: those that may be on the full disk.
    """
    existing = [folder for folder in folders if os.path.isdir(folder)]
    usage = {folder: shutil.disk_usage(folder) for folder in existing}
    words = " ".join(map(str, _chain(error)))
    named = [folder for folder in existing if f"{folder}/" in words]
    if named:
        folder = max(named, key=len)  # one of them may be in another
    else:
        folder = min(usage, key=lambda folder: usage[folder].free)
    free, total = (size / 1e6 for size in (usage[folder].free, usage[folder].total))
    return f"{folder} ({free:,.0f} MB free of {total:,.0f} MB)"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and those behind it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

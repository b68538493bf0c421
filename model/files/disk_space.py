"""Full disks: the recognition of their errors, and messages about them."""

import errno
import os
import pathlib
import shutil
from collections.abc import Sequence

_FULL_DISK_TEXTS = ("No space left on device", "database or disk is full")


def is_full(error: BaseException | None) -> bool:
    """Returns whether a full disk caused an error.

    The error's causes and contexts are checked, too. Some libraries raise an error
    without `errno.ENOSPC`, so the text is searched as well.
    """
    while error is not None:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or any(words in str(error) for words in _FULL_DISK_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def describe_full_disk(folder: pathlib.Path, needed: int | None = None) -> str:
    """Returns an error message: the folder, its needed and free bytes, and what to do.

    Args:
      folder: an existing folder on the full disk.
      needed: the bytes that the work needs; None if they are not known.
    """
    free = shutil.disk_usage(folder).free
    need = f"{needed:,} bytes are needed" if needed else "the disk is full"
    return (
        f"{folder}: {need}, {free:,} bytes are free; free some space or choose "
        "another data folder"
    )


def describe_fullest_disk(folders: Sequence[str]) -> str:
    """Returns a text with the folder whose disk has the least free space, and its MB.

    It completes error messages that do not name the full disk.

    Args:
      folders: paths to compare; missing folders are skipped, and one must exist.
    """
    existing = [folder for folder in folders if os.path.isdir(folder)]
    usage = {folder: shutil.disk_usage(folder) for folder in existing}
    folder = min(usage, key=lambda folder: usage[folder].free)
    free, total = (size / 1e6 for size in (usage[folder].free, usage[folder].total))
    return f"{folder} ({free:,.0f} MB free of {total:,.0f} MB)"

"""Full disks: recognizes the errors that they cause, and describes them."""

import errno
import os
import pathlib
import shutil
from collections.abc import Sequence

_FULL_DISK_TEXTS = ("No space left on device", "database or disk is full")


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error; some libraries only say so in words."""
    while error is not None:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or any(words in str(error) for words in _FULL_DISK_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def describe_full_disk(folder: pathlib.Path, needed: int | None = None) -> str:
    """Returns what to tell: the folder, the bytes needed and free, what to do."""
    free = shutil.disk_usage(folder).free
    need = f"{needed:,} bytes are needed" if needed else "the disk is full"
    return (
        f"{folder}: {need}, {free:,} bytes are free; free some space or choose "
        "another data folder"
    )


def describe_fullest_disk(folders: Sequence[str]) -> str:
    """Returns which folder has the least space left, and how much, in words.

    An error that only says that a disk is full leaves open which one.
    """
    existing = [folder for folder in folders if os.path.isdir(folder)]
    usage = {folder: shutil.disk_usage(folder) for folder in existing}
    folder = min(usage, key=lambda folder: usage[folder].free)
    free, total = (size / 1e6 for size in (usage[folder].free, usage[folder].total))
    return f"{folder} ({free:,.0f} MB free of {total:,.0f} MB)"

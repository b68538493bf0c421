"""Full disks: the recognition of their errors, and messages about them."""

import errno
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

_FULL_DISK_TEXTS = ("No space left on device", "database or disk is full")


def is_full(error: BaseException | None) -> bool:
    """Returns whether a full disk caused an error.

    The error's causes and contexts are checked, too. Some libraries raise an error
    without `errno.ENOSPC`, so the text is searched as well.
    """
    for each in _chain(error):
        full = getattr(each, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or any(words in str(each) for words in _FULL_DISK_TEXTS):
            return True
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


def describe_fullest_disk(error: BaseException, folders: Sequence[str]) -> str:
    """Returns a text with the folder whose disk is full, and its free MB.

    That is the folder of the file that the error names. Many errors name no file: then
    it is the folder with the least free space.

    Args:
      error: an error for which `is_full` is true.
      folders: paths to compare; missing folders are skipped, and one must exist.
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

"""Full disks: told apart, and told of."""

import errno
import pathlib
import shutil


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error; TensorFlow only says so in words."""
    while error is not None:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def full_message(folder: pathlib.Path, needed: int | None = None) -> str:
    """Returns what to tell: the folder, the bytes needed and free, what to do."""
    free = shutil.disk_usage(folder).free
    need = f"{needed:,} bytes are needed" if needed else "the disk is full"
    return (
        f"{folder}: {need}, {free:,} bytes are free; free some space or choose "
        "another data folder"
    )

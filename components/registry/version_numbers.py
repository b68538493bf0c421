"""The numbers of versions: which are in use, which comes next, and who claims it."""

import os
import time
from collections.abc import Sequence

import fsspec

from model.files import filesystems

CLAIM = ".claim-"


def list_numbers(files: fsspec.AbstractFileSystem, path: str) -> list[int]:
    """Returns the numbers in use, of complete versions and of pushes under way.

    Args:
      files: the file system of the versions.
      path: their folder's path in it.
    """
    try:
        found = files.ls(path, detail=False)
    except FileNotFoundError:
        files.find(path)  # raises it again if the bucket, too, is missing
        return []
    names = (os.path.basename(name.rstrip("/")) for name in found)
    # 007 would be looked for as 7.
    return [int(name) for name in names if name.isdecimal() and name == str(int(name))]


def next_number(found: Sequence[int]) -> int:
    """Returns the Unix time, as TFX numbers versions, or one above the highest number.

    A clock that was set back must not give a number below one in use.
    """
    return max(int(time.time()), max(found, default=0) + 1)


def claim_number(files: fsspec.AbstractFileSystem, path: str) -> int:
    """Returns a number of an object store that belongs to this push alone.

    The store lets one of two pushes create the claim, an empty object. Claims stay:
    they let no number be used twice, and a push need not be allowed to delete. A store
    that does not know conditional writes grants every claim.

    Raises:
      OSError: the store refuses the claim for another reason.
    """
    number = next_number(list_numbers(files, path))
    while not _create_claim(files, f"{path}/{CLAIM}{number}"):
        number += 1
    return number


def is_claimed(destination: str, number: int) -> bool:
    """Returns whether a push to an object store claimed the number."""
    with filesystems.open_filesystem(destination) as (files, path):
        return files.exists(f"{path}/{CLAIM}{number}")


def _create_claim(files: fsspec.AbstractFileSystem, claim: str) -> bool:
    """Returns whether the claim was created; False if another push has it."""
    try:
        files.pipe_file(claim, b"", mode="create")
    except OSError:  # the kind depends on the store
        if files.exists(claim):
            return False
        raise
    return True

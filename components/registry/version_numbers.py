"""The numbers of versions: the list of used ones, the next one, and claims of it."""

import os
import time
from collections.abc import Sequence

import fsspec

from model.files import filesystems

CLAIM = ".claim-"


def list_numbers(files: fsspec.AbstractFileSystem, path: str) -> list[int]:
    """Returns all used version numbers, including those of unfinished pushes.

    Args:
      files: the file system of the versions.
      path: the path of the versions' folder in this file system.
    """
    try:
        found = files.ls(path, detail=False)
    except FileNotFoundError:
        files.find(path)  # raises FileNotFoundError if the bucket is missing
        return []
    names = (os.path.basename(name.rstrip("/")) for name in found)
    # A folder 007 is no version: it could not be found by its number, 7.
    return [int(name) for name in names if name.isdecimal() and name == str(int(name))]


def next_number(found: Sequence[int]) -> int:
    """Returns the number for a new version, which is higher than all used numbers.

    It is the Unix time in seconds, as in TFX. If a used number is as high, because the
    clock was set back, it is that number plus 1.

    Args:
      found: the used numbers.
    """
    return max(int(time.time()), max(found, default=0) + 1)


def claim_number(files: fsspec.AbstractFileSystem, path: str) -> int:
    """Claims a new version number in an object store and returns it.

    The claim is an empty object, which only one of two simultaneous pushes can create.
    Claims are never deleted: so no number is used twice, and a push needs no permission
    to delete. A store without conditional writes grants every claim.

    Args:
      files: the file system of the object store.
      path: the path of the versions' folder in this file system.

    Raises:
      OSError: the claim can't be written, and no other push has it.
    """
    number = next_number(list_numbers(files, path))
    while not _create_claim(files, f"{path}/{CLAIM}{number}"):
        number += 1
    return number


def is_claimed(destination: str, number: int) -> bool:
    """Returns whether a push has claimed a version number in an object store."""
    with filesystems.open_filesystem(destination) as (files, path):
        return files.exists(f"{path}/{CLAIM}{number}")


def _create_claim(files: fsspec.AbstractFileSystem, claim: str) -> bool:
    """Creates a claim; returns False if another push has created it before."""
    try:
        files.pipe_file(claim, b"", mode="create")
    except OSError:  # the kind depends on the store
        if files.exists(claim):
            return False
        raise
    return True

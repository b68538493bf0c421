"""The numbers of versions: the list of used ones, the next one, and claims of it."""

import os
import re
import time
from collections.abc import Sequence

import fsspec

from model.errors import PipelineError
from model.files import filesystems

CLAIM = ".claim-"
HIGHEST = 2**63 - 2  # TensorFlow Serving and ML Metadata have 64 bits with a sign

_DIGITS = 19  # of HIGHEST; Python refuses to convert texts with thousands of digits
_SHOWN = 40  # characters of a name in a message


class NoNumberError(PipelineError):
    """A version has the highest number, so that there is none for a new version."""


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
    return [int(name) for name in names if _is_number(name)]


def list_ignored_names(files: fsspec.AbstractFileSystem, path: str) -> list[str]:
    """Returns the names that are numbers, but not those of versions.

    They are numbers outside 1..HIGHEST, and numbers with a sign or zeros before them.
    TensorFlow Serving considers each name that is a number of 64 bits, whatever it is
    the name of (`ParseVersionNumber` in file_system_storage_path_source.cc).

    Args:
      files: the file system of the versions.
      path: the path of the versions' folder in this file system.
    """
    try:
        found = files.ls(path, detail=False)
    except FileNotFoundError:
        return []
    names = (os.path.basename(name.rstrip("/")) for name in found)
    return sorted(
        name
        for name in names
        if re.fullmatch(r"\s*[+-]?[0-9]+\s*", name) and not _is_number(name)
    )


def describe_ignored_names(destination: str) -> list[str]:
    """Returns a message for each name that is a number, but not that of a version.

    Args:
      destination: folder or URI of the versions.

    Raises:
      StorageError: the object store does not answer.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        names = list_ignored_names(files, path)
    result = []
    for name in names:
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
        result.append(
            f"{shown!r} in {destination} is ignored: the number of a version must be "
            f"from 1 to {HIGHEST}, without zeros before it; remove it, because "
            "TensorFlow Serving may load it"
        )
    return result


def is_version_number(number: int) -> bool:
    """Returns whether a version can have this number."""
    return 1 <= number <= HIGHEST


def _is_number(name: str) -> bool:
    """Returns whether a name is the number of a version.

    007 is none: it could not be found by its number, 7.
    """
    if not (name.isascii() and name.isdecimal() and len(name) <= _DIGITS):
        return False
    return is_version_number(int(name)) and name == str(int(name))


def next_number(found: Sequence[int]) -> int:
    """Returns the number for a new version, which is higher than all used numbers.

    It is the Unix time in seconds, as in TFX. If a used number is as high, because the
    clock was set back, it is that number plus 1.

    Args:
      found: the used numbers.

    Raises:
      NoNumberError: the highest number is used.
    """
    number = max(int(time.time()), max(found, default=0) + 1)
    if not is_version_number(number):
        raise NoNumberError(
            f"the number of the next version must be at most {HIGHEST}, which is used: "
            f"nothing of this program has such a number; remove {HIGHEST} from the "
            "folder of the versions"
        )
    return number


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

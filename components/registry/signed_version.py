"""What a signature states about a version, and the file model.sig that contains it.

The statement has the digests of all files, MANIFEST.json among them, and the version's
number, its predecessor and its destination. So a signed version is valid only under its
number and at its destination.
"""

import dataclasses
import os
import stat
from collections.abc import Mapping

import fsspec
from fsspec.implementations.local import LocalFileSystem

from components.registry.manifest import SIGNATURE
from model.errors import PipelineError
from model.files import filesystems, locations

_LARGEST = 4_000_000  # bytes of model.sig; 10,000 files take 2.3 MB


class InvalidSignatureError(PipelineError):
    """A version is not signed by the key that push.verify names, or lies elsewhere."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignedVersion:
    """What a signature states about a version."""

    number: int
    previous: int | None  # the version that was served before; None: there was none
    destination: str  # as `name_destination` returns it
    files: Mapping[str, str]  # SHA-256 of each file by path, MANIFEST.json among them


def read_signature(version_path: str) -> bytes:
    """Returns the content of a version's model.sig.

    Args:
      version_path: path or URI of the version's folder.

    Raises:
      InvalidSignatureError: the file is missing, too large or no regular file.
      OSError: a fault of the machine prevents reading the file.
      StorageError: the object store does not answer.
    """
    with filesystems.open_filesystem(version_path) as (files, path):
        content = _read_at_most(files, f"{path}/{SIGNATURE}")
    if content is None:
        raise InvalidSignatureError(
            f"it has no {SIGNATURE} that is a regular file, and push.verify accepts "
            "only signed versions"
        )
    if len(content) > _LARGEST:
        raise InvalidSignatureError(
            f"{SIGNATURE} must have at most {_LARGEST:,} bytes, got more"
        )
    return content


def name_destination(destination: str) -> str:
    """Returns the name of a destination in signatures.

    It is the URI without a slash at its end; or file:// and the absolute path of the
    folder, in which symbolic links are resolved.

    Args:
      destination: folder or URI of the versions.
    """
    folder = filesystems.local_path(destination)
    if folder is not None:
        return f"file://{os.path.realpath(folder)}"
    location = locations.parse(destination)
    # minio:// is another word for s3://, see `filesystems`.
    scheme = "s3" if location.scheme == "minio" else location.scheme
    return f"{scheme}://{location.path.rstrip('/')}"


def _read_at_most(files: fsspec.AbstractFileSystem, path: str) -> bytes | None:
    """Returns a file's first bytes; None if it is missing or no regular file.

    It is opened without waiting, because a named pipe would wait for a writer.
    """
    try:
        if not isinstance(files, LocalFileSystem):
            with files.open(path, "rb") as file:
                return file.read(_LARGEST + 1)
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags), "rb") as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return file.read(_LARGEST + 1) if is_regular else None
    except (FileNotFoundError, NotADirectoryError):
        return None

"""SHA-256 digests of files of any size."""

import hashlib
import pathlib
from typing import BinaryIO

from model.files import regular_files

_CHUNK = 1 << 20  # bytes read at once


def digest_stream(file: BinaryIO) -> str:
    """Returns the SHA-256, in hex, of a binary file from its position to its end."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def digest_file(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file's content, in hex.

    Raises:
      IrregularFileError: the path is a named pipe, a socket or a device.
      OSError: the file cannot be read.
    """
    with regular_files.open_regular(path) as file:
        return digest_stream(file)

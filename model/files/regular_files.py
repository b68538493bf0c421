"""Reading of regular files only, in folders where other programs may write.

Opening a named pipe waits for a writer, and opening a device may do anything. So a file
of another kind in a shared folder could stop every command that reads the folder.
"""

import errno
import os
import stat
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from model.files.safe_paths import PathError

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class IrregularFileError(PathError):
    """A named pipe, a socket or a device is in the place of a regular file."""


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a regular file for reading, without waiting; follows symbolic links.

    The kind is checked before the file is opened, because opening a device may have
    effects, and again afterwards, because the file may have been replaced.

    Raises:
      IrregularFileError: the path is a named pipe, a socket or a device.
      OSError: the file is missing, a folder, or can't be read.
    """
    _check_mode(path, os.stat(path).st_mode)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        _check_mode(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | os.PathLike) -> bytes:
    """Returns the content of a regular file.

    Raises:
      IrregularFileError: the path is a named pipe, a socket or a device.
      OSError: the file is missing, a folder, or can't be read.
    """
    with open_regular(path) as file:
        return file.read()


def read_text(path: str | os.PathLike) -> str:
    """Returns the text of a regular file in UTF-8.

    Raises:
      IrregularFileError: the path is a named pipe, a socket or a device.
      OSError: the file is missing, a folder, or can't be read.
      UnicodeDecodeError: the text is not in UTF-8.
    """
    return read_bytes(path).decode()


def read_stored(files: fsspec.AbstractFileSystem, path: str) -> bytes:
    """Returns the content of an object, or of a regular file of this machine.

    Args:
      files: the file system.
      path: the path in this file system.

    Raises:
      IrregularFileError: the path is a named pipe, a socket or a device.
      OSError: the file is missing, a folder, or can't be read.
    """
    if isinstance(files, LocalFileSystem):
        return read_bytes(path)
    return files.cat_file(path)


def open_stored(files: fsspec.AbstractFileSystem, path: str) -> BinaryIO:
    """Opens an object, or a regular file of this machine, for reading.

    Args:
      files: the file system.
      path: the path in this file system.

    Raises:
      IrregularFileError: the path is a named pipe, a socket or a device.
      OSError: the file is missing, a folder, or can't be read.
    """
    if isinstance(files, LocalFileSystem):
        return open_regular(path)
    return files.open(path, "rb")


def describe_kind(mode: int) -> str | None:
    """Returns what a path is that is neither a file, a folder nor a link; else None.

    Args:
      mode: the mode of the path, from `os.stat`.
    """
    return _KINDS.get(stat.S_IFMT(mode))


def refuse_irregular(folder: str) -> None:
    """Raises IrregularFileError unless all below a folder are files, folders or links.

    Raises:
      IrregularFileError: there is a named pipe, a socket or a device.
    """
    for where, _, names in os.walk(folder):
        for name in sorted(names):
            path = os.path.join(where, name)
            try:
                _check_mode(path, os.lstat(path).st_mode, folder=folder)
            except FileNotFoundError:  # it has just been removed
                continue


def _check_mode(
    path: str | os.PathLike, mode: int, *, folder: str | None = None
) -> None:
    """Raises an error for a folder or a special file; messages name it as `path`."""
    if kind := describe_kind(mode):
        shown = f"{os.path.relpath(path, folder)} below {folder}" if folder else path
        raise IrregularFileError(
            f"{shown} must be a regular file, but it is {kind}: remove it"
        )
    if folder is None and stat.S_ISDIR(mode):
        raise IsADirectoryError(
            errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path)
        )

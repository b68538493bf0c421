"""Checks of paths that users write, and of file names from manifests and listings."""

import os
import sys

from model.errors import PipelineError

_PATTERN_CHARACTERS = frozenset("*?[\\")  # { and ] have no meaning without these


class PathError(PipelineError):
    """A path or file name that can't be used; the message gives the reason."""


def expand_home(path: str) -> str:
    """Returns the path with a leading `~` or `~USER` replaced by the home folder.

    A `~` at any other position, such as in `./~`, is not replaced.

    Raises:
      PathError: the user does not exist or has no home folder.
    """
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded == path:
        home = path.partition("/")[0]
        raise PathError(
            f"{home} must be a home folder, got {path!r}: there is no such user, or "
            f"HOME is not set; write the whole path, or ./{home} for a folder of "
            "that name"
        )
    return expanded


def check_no_pattern(what: str, path: str) -> None:
    """Raises PathError if a path contains one of the characters * ? [ and backslash.

    Beam, fsspec and TensorFlow's loader of variables read such a path as a pattern of
    file names, and TensorFlow has no way to escape these characters.

    Args:
      what: name of the path's setting or option, for the message.
      path: the path or URI to check.

    Raises:
      PathError: the path contains such a character.
    """
    if _PATTERN_CHARACTERS & set(path):
        raise PathError(
            f"{what} must be a path without *, ?, [ and \\, which Beam and TensorFlow "
            f"take as patterns of names, got {path!r}: choose another folder"
        )


def check_utf8(what: str, path: str) -> None:
    """Checks a path that TensorFlow or ML Metadata gets: they encode it in UTF-8.

    Where the locale's encoding is another one, they would look for another path.

    Args:
      what: the path is, for the message.
      path: as Python decoded it.

    Raises:
      PathError: its bytes on the disk are others than those in UTF-8.
    """
    encoding = sys.getfilesystemencoding()
    try:
        is_same = path.encode() == os.fsencode(path)
    except UnicodeEncodeError:
        is_same = False
    if not is_same:
        raise PathError(
            f"{what} must be a path that is the same in UTF-8 and in this locale's "
            f"encoding, {encoding}, got {path!r}: set LC_ALL=C.UTF-8 or PYTHONUTF8=1, "
            "or choose another folder"
        )


def check_name(folder: str, name: str) -> None:
    """Raises PathError unless a relative file name stays below its folder.

    Args:
      folder: the folder or URI, for the message.
      name: the name, from a listing or a manifest that another program wrote.

    Raises:
      PathError: the name is empty or absolute, has a part that is empty, `.` or `..`,
        or contains a null character.
    """
    if any(part in ("", ".", "..") or "\0" in part for part in name.split("/")):
        raise PathError(f"a file's name must lead below {folder}, got {name!r}")


def join_below(folder: str, name: str) -> str:
    """Returns the path `folder/name` after a check that it stays below the folder.

    Raises:
      PathError: `check_name` refuses the name, or a part of it is a symbolic link.
    """
    check_name(folder, name)
    path = folder
    for part in name.split("/"):
        path = os.path.join(path, part)
        if os.path.islink(path):
            raise _link_error(folder, path)
    return path


def refuse_links(folder: str) -> None:
    """Raises PathError if there is a symbolic link below the folder.

    A copy of the folder would contain the link's target, which may be any file of this
    machine. Links in the path of the folder itself are allowed: the user chose it.

    Raises:
      PathError: there is a symbolic link.
      OSError: a folder can't be read.
    """
    for where, folders, names in os.walk(folder, onerror=_raise_unless_absent):
        for name in sorted((*folders, *names)):
            path = os.path.join(where, name)
            if os.path.islink(path):
                raise _link_error(folder, path)


def _raise_unless_absent(error: OSError) -> None:
    # Without this, os.walk would skip folders that can't be read.
    if not isinstance(error, FileNotFoundError):
        raise error


def _link_error(folder: str, path: str) -> PathError:
    return PathError(
        f"{os.path.relpath(path, folder)} below {folder} must be no symbolic link, it "
        f"leads to {os.readlink(path)}"
    )

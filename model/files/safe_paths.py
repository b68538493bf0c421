"""Paths as people write them, and names from elsewhere that stay below a folder."""

import os

from model.errors import PipelineError

_PATTERN_CHARACTERS = frozenset("*?[\\")  # { and ] alone are characters like any other


class PathError(PipelineError):
    """A path that can't be used; the message says why."""


def expand_home(path: str) -> str:
    """Returns a path with the home folder in place of `~` or `~USER` at its beginning.

    Anywhere else a `~` is a character like any other; so it is in `./~`.

    Raises:
      PathError: there is no such user, or no home folder.
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
    """Checks a path that Beam, fsspec or TensorFlow's loader of variables gets.

    They take it as a pattern of names, and TensorFlow's has no way to escape one.

    Args:
      what: the path is, for the message.
      path: or URI.

    Raises:
      PathError: it has a character of patterns.
    """
    if _PATTERN_CHARACTERS & set(path):
        raise PathError(
            f"{what} must be a path without *, ?, [ and \\, which Beam and TensorFlow "
            f"take as patterns of names, got {path!r}: choose another folder"
        )


def check_name(folder: str, name: str) -> None:
    """Checks the name of a file below a folder or object-store path.

    Args:
      folder: for the message.
      name: another's: of a listing or a manifest.

    Raises:
      PathError: it is empty or absolute, or has a part that is empty, `.` or `..`, or
        is no name of a file here.
    """
    if any(part in ("", ".", "..") or "\0" in part for part in name.split("/")):
        raise PathError(f"a file's name must lead below {folder}, got {name!r}")


def join_below(folder: str, name: str) -> str:
    """Returns `folder/name`, to write to.

    Raises:
      PathError: as `check_name`, or a symbolic link is on the way.
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

    A copy would hold what it leads to, which may be any file of this machine. The
    folder's own path may have links: it is of those who configure.

    Raises:
      OSError: a folder can't be read.
    """
    for where, folders, names in os.walk(folder, onerror=_raise_unless_absent):
        for name in sorted((*folders, *names)):
            path = os.path.join(where, name)
            if os.path.islink(path):
                raise _link_error(folder, path)


def _raise_unless_absent(error: OSError) -> None:
    # os.walk would leave out what a folder holds that can't be read.
    if not isinstance(error, FileNotFoundError):
        raise error


def _link_error(folder: str, path: str) -> PathError:
    return PathError(
        f"{os.path.relpath(path, folder)} below {folder} must be no symbolic link, it "
        f"leads to {os.readlink(path)}"
    )

"""Names that come from elsewhere, as paths that stay below their folder."""

import os


class PathError(ValueError):
    """A name leads out of the folder that it must be below."""


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


def below(folder: str, name: str) -> str:
    """Returns `folder/name`, to write to.

    Raises:
      PathError: as `check_name`, or a symbolic link is on the way.
    """
    check_name(folder, name)
    path = folder
    for part in name.split("/"):
        path = os.path.join(path, part)
        if os.path.islink(path):
            raise _link(folder, path)
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
                raise _link(folder, path)


def _raise_unless_absent(error: OSError) -> None:
    # os.walk would leave out what a folder holds that can't be read.
    if not isinstance(error, FileNotFoundError):
        raise error


def _link(folder: str, path: str) -> PathError:
    return PathError(
        f"{os.path.relpath(path, folder)} below {folder} must be no symbolic link, it "
        f"leads to {os.readlink(path)}"
    )

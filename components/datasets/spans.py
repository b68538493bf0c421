"""The folders of spans, which match a source pattern such as DIR/span-{SPAN}.

Each span has the data of one period of time; later spans have higher numbers, which may
be padded with zeros. DIR is a local folder or an object store's URI.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Callable

import fsspec

from components.datasets.idx import DataError
from model.files import filesystems, locations
from model.files.safe_paths import PathError

PLACEHOLDER = "{SPAN}"  # the part of a source pattern that a span's number replaces
NAMES = ("auto", "tfds", "wheel")  # the sources that are no folders
_EXPECTED = (
    f"be {', '.join(NAMES)}, a folder, or a URI of spans such as "
    f"s3://bucket/digits/span-{PLACEHOLDER}"
)


@dataclasses.dataclass(frozen=True)
class SpanFolder:
    """The number of a span and the location of its folder."""

    number: int
    uri: str  # a local path or an object store's URI


def is_pattern(source: str) -> bool:
    """Returns whether a source is a pattern of spans."""
    return PLACEHOLDER in source


def find_newest(
    pattern: str, window: int, *, print_line: Callable[[str], None]
) -> list[SpanFolder]:
    """Returns the folders of the spans with the highest numbers, in ascending order.

    Args:
      pattern: a path or URI whose last part contains {SPAN}, such as
        `s3://bucket/digits/span-{SPAN}`.
      window: the largest number of spans to return.
      print_line: function that is called with a line about skipped folders and numbers.

    Raises:
      DataError: there is no span, two spans have the same number, or a span is a link
        out of the folder.
      StorageError: the object store does not answer.
    """
    folder, part = _split_pattern(pattern)
    prefix, _, suffix = part.partition(PLACEHOLDER)
    found: dict[int, str] = {}
    others = []
    with filesystems.open_filesystem(folder) as (files, path):
        names = _list_folders(files, path, folder=folder)
    for name in names:
        middle = name[len(prefix) : len(name) - len(suffix)]
        if not (name == f"{prefix}{middle}{suffix}" and middle):
            others.append(name)
        elif not re.fullmatch("[0-9]+", middle):
            print_line(f"{folder}/{name} is skipped: {middle!r} is no span's number")
            others.append(name)
        elif int(middle) in found:
            raise DataError(
                f"{folder} has span {int(middle)} twice, as {found[int(middle)]} and "
                f"{name}: remove one of them"
            )
        else:
            found[int(middle)] = name
    if not found:
        there = ", ".join(sorted(others)[:10]) or "nothing"
        raise DataError(
            f"no span matches {pattern}: looked in {folder} for folders named {prefix}"
            f"<digits>{suffix}, and found {there}; put a span there or correct --source"
        )
    numbers = sorted(found)[-window:]
    for before, after in itertools.pairwise(numbers):
        if after - before > 1:
            gap = (
                f"span {before + 1} is"
                if after - before == 2
                else (f"spans {before + 1} to {after - 1} are")
            )
            print_line(f"{gap} missing: skipped")
    for number in numbers:
        _check_inside(folder, found[number])
    return [SpanFolder(number, f"{folder}/{found[number]}") for number in numbers]


def fetch_files(span: SpanFolder, folder: str) -> str:
    """Returns a local folder with the span's files, and downloads them if necessary.

    The result is the span's own folder if it is local, else `folder`.

    Args:
      span: a span from `find_newest`.
      folder: the folder for the files of an object store.

    Raises:
      DataError: a file of a local span is a link out of the span's folder.
      StorageError: the object store does not answer.
    """
    path = filesystems.local_path(span.uri)
    if path is not None:
        for name in sorted(os.listdir(path)):
            _check_inside(path, name)
        return path
    with filesystems.open_filesystem(span.uri) as (files, path):
        for file in files.ls(path, detail=True):
            name = os.path.basename(file["name"])
            # Folders, and the empty objects that represent them, are not files.
            if file["type"] == "file" and name not in ("", ".", ".."):
                files.get_file(file["name"], os.path.join(folder, name))
    return folder


def check_source(source: str) -> None:
    """Checks that a source is a folder, a name or a valid span pattern.

    A pattern has {SPAN} once, in its last part. A URI must be a pattern.

    Raises:
      PathError: the source is none of them.
    """
    locations.check_setting(source, what="source", expected=_EXPECTED)
    folder, _, part = source.rstrip("/").rpartition("/")
    if source.count(PLACEHOLDER) > 1 or PLACEHOLDER in folder:
        raise PathError(
            f"source must have {PLACEHOLDER} once, in its last part, such as "
            f"digits/span-{PLACEHOLDER}, got {source!r}"
        )
    if "://" in source and PLACEHOLDER not in part:
        scheme = source.partition("://")[0]
        raise PathError(
            f"source must be a folder, or a URI of spans such as {scheme}://bucket/"
            f"digits/span-{PLACEHOLDER}, got {source!r}"
        )


def _split_pattern(pattern: str) -> tuple[str, str]:
    """Returns a pattern's folder, as an absolute path or a URI, and its last part."""
    folder, _, part = pattern.rstrip("/").rpartition("/")
    if folder in ("", "file://") and pattern.startswith(("/", "file:///")):
        folder = "/"
    path = filesystems.local_path(folder or ".")
    return (path if path is not None else folder), part


def _list_folders(
    files: fsspec.AbstractFileSystem, path: str, *, folder: str
) -> list[str]:
    """Returns the sorted names of the folders in `folder`, including links."""
    try:
        found = files.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{folder} is not a folder: expected one with a folder for each span; "
            "correct --source"
        ) from error
    return sorted(
        os.path.basename(entry["name"].rstrip("/"))
        for entry in found
        if entry["type"] == "directory"
        or (entry.get("islink") and os.path.isdir(entry["name"]))
    )


def _check_inside(folder: str, name: str) -> None:
    """Raises DataError if a local file or folder is a symbolic link out of `folder`."""
    path = filesystems.local_path(folder)
    if path is None:  # an object store has no links
        return
    root, target = os.path.realpath(path), os.path.realpath(os.path.join(path, name))
    if not target.startswith(f"{root.rstrip('/')}/"):
        raise DataError(
            f"{os.path.join(path, name)} is a link to {target}: expected one that "
            f"stays in {root}; copy the files there"
        )

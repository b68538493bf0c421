"""Puts files at the push destination under a number, and takes them away again.

In a folder, a version appears under its number all at once, complete. An object store
cannot rename: there the files appear one by one, in an order that no reader minds.
First the variables and assets; saved_model.pb last of the model, for without it TF
Serving finds no model to load, and tries again; MANIFEST.json last of all. A push that
dies half-way leaves a number without a manifest, which the next push passes over.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Sequence

import filelock
import fsspec

from components.registry.manifest import MANIFEST
from model.files import filesystems

CLAIM = ".claim-"
_STAGING = ".staging-"
_LOCK = ".pushing.lock"
_LAST = ("fingerprint.pb", "saved_model.pb")  # of a model's files, in an object store


def put(model: str, names: Sequence[str], destination: str, manifest: str) -> int:
    """Copies a model's files and a manifest to a new number, and returns that.

    Args:
      model: the folder.
      names: of its files.
      destination: the folder of versions, or its URI.
      manifest: the text of MANIFEST.json.
    """
    folder = filesystems.local_path(destination)
    if folder is not None:
        return _put_in_folder(model, folder, manifest)
    return _put_in_store(model, names, destination, manifest)


def remove(destination: str, numbers: Sequence[int]) -> None:
    """Removes versions, and what killed pushes to a folder left; claims stay.

    A folder's version is gone all at once. In an object store the manifest goes first:
    a version that is half gone does not count.
    """
    folder = filesystems.local_path(destination)
    if folder is not None:
        if not os.path.isdir(folder):
            return
        with filelock.FileLock(os.path.join(folder, _LOCK), mode=filesystems.FILE):
            for number in numbers:
                staging = tempfile.mkdtemp(prefix=_STAGING, dir=folder)
                with contextlib.suppress(FileNotFoundError):
                    os.rename(os.path.join(folder, str(number)), f"{staging}/{number}")
            _remove_staging(folder)
        return
    with filesystems.opened(destination) as (files, path):
        for number in numbers:
            if files.exists(f"{path}/{number}/{MANIFEST}"):
                files.rm_file(f"{path}/{number}/{MANIFEST}")
            files.rm(f"{path}/{number}", recursive=True)


def is_claimed(destination: str, number: int) -> bool:
    """Whether a push to an object store made a claim on the number."""
    with filesystems.opened(destination) as (files, path):
        return files.exists(f"{path}/{CLAIM}{number}")


def size(destination: str, number: int) -> int:
    """Returns the bytes of all files under a number."""
    with filesystems.opened(destination) as (files, path):
        found = files.find(f"{path}/{number}", detail=True)
    return sum(info["size"] or 0 for info in found.values())


def note(destination: str, name: str, text: str) -> None:
    """Writes a file beside the versions, all at once; it may be there already."""
    folder = filesystems.local_path(destination)
    if folder is None:
        with filesystems.opened(destination) as (files, path):
            files.pipe_file(f"{path}/{name}", text.encode())
        return
    with filelock.FileLock(os.path.join(folder, _LOCK), mode=filesystems.FILE):
        staging = pathlib.Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
        (staging / name).write_text(text, encoding="utf-8")
        (staging / name).chmod(filesystems.FILE)
        _sync(str(staging))
        os.rename(staging / name, os.path.join(folder, name))
        _sync_folder(folder)
        _remove_staging(folder)


def numbers(files: fsspec.AbstractFileSystem, path: str) -> list[int]:
    """Returns the numbers there, of complete versions and of what may become one."""
    try:
        found = files.ls(path, detail=False)
    except FileNotFoundError:
        files.find(path)  # raises it again if the bucket, too, is missing
        return []
    names = (os.path.basename(name.rstrip("/")) for name in found)
    # 007 would be looked for as 7.
    return [int(name) for name in names if name.isdecimal() and name == str(int(name))]


def _put_in_folder(model: str, folder: str, manifest: str) -> int:
    """Writes beside, under a name that is no version, syncs, then renames.

    A reader never sees a version without all its files, whenever the push is killed.
    A second push waits for the first.
    """
    filesystems.make_public_folder(folder)
    # A push at the same time would take this one's staging for a killed one's.
    with filelock.FileLock(os.path.join(folder, _LOCK), mode=filesystems.FILE):
        _remove_staging(folder)
        staging = tempfile.mkdtemp(prefix=_STAGING, dir=folder)
        try:
            shutil.copytree(model, staging, dirs_exist_ok=True)
            pathlib.Path(staging, MANIFEST).write_text(manifest, encoding="utf-8")
            _let_all_read(staging)
            _sync(staging)
            number = _next_number(numbers(*filesystems.filesystem(folder)))
            os.rename(staging, os.path.join(folder, str(number)))
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _sync_folder(folder)
    return number


def _remove_staging(folder: str) -> None:
    for name in os.listdir(folder):
        if name.startswith(_STAGING):  # left by a push that was killed
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def _put_in_store(
    model: str, names: Sequence[str], destination: str, manifest: str
) -> int:
    """Writes the files one by one, in the order that the module's docstring gives."""
    with filesystems.opened(destination) as (files, path):
        number = _next_number(numbers(files, path))
        while not _claimed(files, f"{path}/{CLAIM}{number}"):
            number += 1
        for name in sorted(names, key=lambda name: (name in _LAST, name)):
            files.put_file(os.path.join(model, name), f"{path}/{number}/{name}")
        files.pipe_file(f"{path}/{number}/{MANIFEST}", manifest.encode())
    return number


def _claimed(files: fsspec.AbstractFileSystem, claim: str) -> bool:
    """Whether a number is this push's alone: the store lets one of two make the claim.

    Claims stay: they let no number be used twice, and a push need not be allowed to
    delete. A store that does not know conditional writes grants every claim.
    """
    try:
        files.pipe_file(claim, b"", mode="create")
    except OSError:  # of several kinds, by the store
        if files.exists(claim):
            return False
        raise
    return True


def _next_number(found: Sequence[int]) -> int:
    """Returns the Unix time, as TFX numbers versions, or more if a clock went back."""
    return max(int(time.time()), max(found, default=0) + 1)


def _let_all_read(directory: str) -> None:
    """Sets every mode: those of the model, of mkdtemp and of the umask may keep a model
    server's user out, or let others write."""
    for folder, _, names in os.walk(directory):
        os.chmod(folder, filesystems.FOLDER)
        for name in names:
            os.chmod(os.path.join(folder, name), filesystems.FILE)


def _sync(directory: str) -> None:
    for folder, _, names in os.walk(directory):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                os.fsync(file.fileno())
        _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The push destination: version folders, each with a manifest of its files.

A version is a folder `<number>` with a SavedModel and MANIFEST.json, as TF Serving
polls them: it serves the highest number. Only a version with a manifest counts here.

In a folder, a version appears under its number all at once, complete. An object store
cannot rename: there the files appear one by one, in an order that no reader minds.
First the variables and assets; saved_model.pb last of the model, for without it TF
Serving finds no model to load, and tries again; MANIFEST.json last of all. A push that
dies half-way leaves a number without a manifest, which the next push passes over.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import filelock
import fsspec

from components.manifest import MANIFEST, digest_of, file_digests, file_names
from model import storage

_STAGING = ".staging-"
_LOCK = ".pushing.lock"
_CLAIM = ".claim-"
_LAST = ("fingerprint.pb", "saved_model.pb")  # of a model's files, in an object store


@dataclasses.dataclass(frozen=True)
class Version:
    """A complete version at the push destination."""

    number: int
    path: str  # or the URI
    manifest: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The model's SHA-256: the same for the same files."""
        return self.manifest["digest"]


def served(destination: str) -> Version | None:
    """Returns the version that is served: the highest number with a manifest.

    Raises:
      StorageError: the object store does not answer, or has no such bucket.
      ValueError: its manifest is no JSON.
    """
    with storage.opened(destination) as (files, path):
        numbers = sorted(_numbers(files, path), reverse=True)
        texts = ((n, _read(files, f"{path}/{n}/{MANIFEST}")) for n in numbers)
        number, text = next(((n, t) for n, t in texts if t is not None), (0, None))
    return None if text is None else _version(destination, number, text)


def _version(destination: str, number: int, text: bytes) -> Version:
    version = _path(destination, number)
    try:
        return Version(number, version, json.loads(text))
    except ValueError as error:
        raise ValueError(
            f"{version}/{MANIFEST} must be the JSON that was pushed ({error}): "
            "remove that version"
        ) from error


def find(destination: str, number: int) -> Version:
    """Returns the version of a number.

    Raises:
      LookupError: there is no such version.
      StorageError: the object store does not answer, or has no such bucket.
      ValueError: its manifest is no JSON.
    """
    with storage.opened(destination) as (files, path):
        text = _read(files, f"{path}/{number}/{MANIFEST}")
        if text is None:
            complete = [
                str(other)
                for other in sorted(_numbers(files, path))
                if files.exists(f"{path}/{other}/{MANIFEST}")
            ]
    if text is None:
        raise LookupError(
            f"the version must be one of those at {destination} "
            f"({', '.join(complete) or 'there are none'}), got {number}"
        )
    return _version(destination, number, text)


def verify(version: Version, copy: str | None = None) -> None:
    """Raises ValueError unless the version's files, or a copy's, are as pushed."""
    found, expected = file_digests(copy or version.path), version.manifest["files"]
    wrong = [
        f"{path} is {'missing' if path not in found else 'not what was pushed'}"
        for path, digest in expected.items()
        if found.get(path) != digest
    ] + [f"{path} was not pushed" for path in found if path not in expected]
    if wrong:
        raise ValueError(
            f"the files of {version.path} must be those of its {MANIFEST}: "
            + ", ".join(wrong)
        )


def fetch(version: Version, folder: str) -> None:
    """Copies a version's files, but not its manifest, to a new folder.

    The copy is what is verified: the files may change, or the network fail, meanwhile.

    Raises:
      ValueError: the copy is not what was pushed; nothing is left of it.
      StorageError: the object store does not answer.
    """
    try:
        with storage.opened(version.path) as (files, path):
            for name in file_names(files, path):
                target = os.path.join(folder, name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                files.get_file(f"{path}/{name}", target)
        verify(version, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def push(model: str, destination: str, manifest: Mapping[str, Any]) -> Version:
    """Copies a model to a new version, which counts when all of it is there.

    Args:
      model: the SavedModel's folder.
      destination: the folder of versions, or its URI.
      manifest: what to say of the model, besides its files and their digest.

    Raises:
      FileNotFoundError: there is no model.
      StorageError: the object store did not take it.
    """
    digests = file_digests(model)
    if not digests:
        raise FileNotFoundError(f"a model's folder must have files, {model} has none")
    full = {"digest": digest_of(digests), **manifest, "files": digests}
    text = json.dumps(full, indent=2) + "\n"
    folder = storage.local_path(destination)
    if folder is not None:
        number = _push_to_folder(model, folder, text)
    else:
        number = _push_to_store(model, list(digests), destination, text)
    return Version(number, _path(destination, number), full)


def _push_to_folder(model: str, folder: str, manifest: str) -> int:
    """Writes beside, under a name that is no version, syncs, then renames.

    A reader never sees a version without all its files, whenever the push is killed.
    A second push waits for the first.
    """
    os.makedirs(folder, exist_ok=True)
    # A push at the same time would take this one's staging for a killed one's.
    with filelock.FileLock(os.path.join(folder, _LOCK)):
        for name in os.listdir(folder):
            if name.startswith(_STAGING):  # left by a push that was killed
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
        staging = tempfile.mkdtemp(prefix=_STAGING, dir=folder)
        try:
            shutil.copytree(model, staging, dirs_exist_ok=True)
            pathlib.Path(staging, MANIFEST).write_text(manifest)
            # mkdtemp's 0700 would keep a model server's user out.
            os.chmod(staging, 0o755)  # noqa: S103
            _sync(staging)
            number = _next_number(_numbers(*storage.filesystem(folder)))
            os.rename(staging, os.path.join(folder, str(number)))
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _sync_folder(folder)
    return number


def _push_to_store(
    model: str, names: list[str], destination: str, manifest: str
) -> int:
    """Writes the files one by one, in the order that the module's docstring gives."""
    with storage.opened(destination) as (files, path):
        number = _next_number(_numbers(files, path))
        while not _claimed(files, f"{path}/{_CLAIM}{number}"):
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


def _numbers(files: fsspec.AbstractFileSystem, path: str) -> list[int]:
    try:
        found = files.ls(path, detail=False)
    except FileNotFoundError:
        files.find(path)  # raises it again if the bucket, too, is missing
        return []
    names = (os.path.basename(name.rstrip("/")) for name in found)
    return [int(name) for name in names if name.isdecimal()]


def _read(files: fsspec.AbstractFileSystem, path: str) -> bytes | None:
    try:
        return files.cat_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _next_number(numbers: list[int]) -> int:
    """Returns the Unix time, as TFX numbers versions, or more if a clock went back."""
    return max(int(time.time()), max(numbers, default=0) + 1)


def _path(destination: str, number: int) -> str:
    return f"{destination.rstrip('/')}/{number}"


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

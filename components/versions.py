"""The push destination: version folders, each with a manifest of its files.

A version is a folder `<number>` with a SavedModel and MANIFEST.json, as TF Serving
polls them: it serves the highest number. Only a version with a manifest counts here,
and only complete ones ever appear under a number.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import filelock

MANIFEST = "MANIFEST.json"
_STAGING = ".staging-"
_LOCK = ".pushing.lock"


@dataclasses.dataclass(frozen=True)
class Version:
    """A complete version at the push destination."""

    number: int
    path: str
    manifest: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The model's SHA-256: the same for the same files."""
        return self.manifest["digest"]


def file_digests(directory: str) -> dict[str, str]:
    """Returns the SHA-256 of each file below a folder but its manifest, by path."""
    digests = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = pathlib.Path(folder, name)
            relative = path.relative_to(directory).as_posix()
            if relative != MANIFEST:
                digests[relative] = hashlib.sha256(path.read_bytes()).hexdigest()
    return dict(sorted(digests.items()))


def digest_of(files: Mapping[str, str]) -> str:
    """Returns one SHA-256 over the paths and digests of a model's files."""
    lines = (f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def served(destination: str) -> Version | None:
    """Returns the version that is served: the highest number with a manifest."""
    versions = [
        Version(number, path, manifest)
        for number, path in _numbered(destination)
        if (manifest := _read_manifest(path)) is not None
    ]
    return max(versions, key=lambda version: version.number, default=None)


def verify(version: Version) -> None:
    """Raises ValueError unless the version's files are those of its manifest."""
    found, expected = file_digests(version.path), version.manifest["files"]
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


def push(model: str, destination: str, manifest: Mapping[str, Any]) -> Version:
    """Copies a model to a new version folder, all at once or not at all.

    The files are written beside under a name that is no version, synced, then renamed:
    a reader never sees a version without all its files, whenever the push is killed.
    A second push waits for the first.

    Args:
      model: the SavedModel's folder.
      destination: the folder of versions.
      manifest: what to say of the model, besides its files and their digest.
    """
    os.makedirs(destination, exist_ok=True)
    # A push at the same time would take this one's staging for a killed one's.
    with filelock.FileLock(os.path.join(destination, _LOCK)):
        for name in os.listdir(destination):
            if name.startswith(_STAGING):  # left by a push that was killed
                shutil.rmtree(os.path.join(destination, name), ignore_errors=True)
        staging = tempfile.mkdtemp(prefix=_STAGING, dir=destination)
        try:
            shutil.copytree(model, staging, dirs_exist_ok=True)
            files = file_digests(staging)
            full = {"digest": digest_of(files), **manifest, "files": files}
            pathlib.Path(staging, MANIFEST).write_text(
                json.dumps(full, indent=2) + "\n"
            )
            # mkdtemp's 0700 would keep a model server's user out.
            os.chmod(staging, 0o755)  # noqa: S103
            _sync(staging)
            number = _next_number(destination)
            path = os.path.join(destination, str(number))
            os.rename(staging, path)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _sync_folder(destination)
    return Version(number, path, full)


def _numbered(destination: str) -> list[tuple[int, str]]:
    if not os.path.isdir(destination):
        return []
    return [
        (int(name), os.path.join(destination, name))
        for name in os.listdir(destination)
        if name.isdecimal()
    ]


def _read_manifest(path: str) -> Mapping[str, Any] | None:
    file = pathlib.Path(path, MANIFEST)
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise ValueError(
            f"{file} must be the JSON that was pushed ({error}): remove that version"
        ) from error


def _next_number(destination: str) -> int:
    """Returns the Unix time, as TFX numbers versions, or more if a clock went back."""
    newest = max((number for number, _ in _numbered(destination)), default=0)
    return max(int(time.time()), newest + 1)


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

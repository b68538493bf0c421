"""The push destination: version folders, each with a manifest of its files.

A version is a folder `<number>` with a SavedModel and MANIFEST.json, as TF Serving
polls them: it serves the highest number. Here only an intact version counts, one whose
files are those of its manifest: no other is measured against or gone back to.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from components.registry import publish
from components.registry.manifest import MANIFEST, digest_of, file_digests, file_names
from model.files import filesystems, machine_faults, safe_paths
from model.training.progress import log_if_slow

_SHOWN = 3  # files that are wrong, in a message


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


@dataclasses.dataclass(frozen=True)
class Damaged:
    """A version's number, under which its files are not, or not all, or changed."""

    number: int
    path: str  # or the URI
    why: str  # such as "saved_model.pb is missing"
    pushed: bool = True  # whether it has a manifest: else another may be writing it
    compared: bool = False  # with a manifest of ours: it is no good for certain
    unread: OSError | None = None  # the machine's fault: it may be good

    def told(self, served: Version | None) -> str:
        """Returns that it is damaged, and what is the baseline in its place."""
        folder = os.path.dirname(self.path)
        instead = f"version {served.number} is" if served else "there is none"
        return (
            f"version {self.number} of {folder} is damaged: {self.why}; it is no "
            f"baseline: {instead}"
        )


def served(destination: str) -> Version | None:
    """Returns the version that is served: the newest that is intact.

    Raises:
      OSError: the machine could not read it.
      StorageError: the object store does not answer, or has no such bucket.
    """
    return intact(destination)[0]


def intact(destination: str) -> tuple[Version | None, list[Damaged]]:
    """Returns the version that is served, and the damaged ones that are newer.

    A server may still try to load one of these: it knows no manifest.

    Raises:
      OSError: the machine could not read one, which may be the version that is served.
      StorageError: the object store does not answer, or has no such bucket.
    """
    damaged: list[Damaged] = []
    for found in look(destination):
        if isinstance(found, Version):
            return found, damaged
        if found.unread:
            raise found.unread
        damaged.append(found)
    return None, damaged


def glance(destination: str) -> tuple[list[int], bytes | None]:
    """Returns all numbers and the newest one's manifest: they change with each push.

    It reads no model, so that who looks again and again may glance first.

    Raises:
      StorageError: the object store does not answer, or has no such bucket.
    """
    with filesystems.opened(destination) as (files, path):
        numbers = sorted(publish.numbers(files, path))
        manifest = _read(files, f"{path}/{numbers[-1]}/{MANIFEST}") if numbers else None
        return numbers, manifest


def look(destination: str) -> Iterator[Version | Damaged]:
    """Yields what is under each number, the newest first; reads all its files.

    Raises:
      StorageError: the object store does not answer, or has no such bucket.
    """
    with filesystems.opened(destination) as (files, path):
        numbers = sorted(set(publish.numbers(files, path)), reverse=True)
    for number in numbers:
        version = _path(destination, number)
        found = None
        try:
            found = find(destination, number)
            verify(found)
            yield found
        except filesystems.StorageError:
            raise
        except LookupError:
            why = f"it has no {MANIFEST}, or not yet"
            yield Damaged(number, version, why, pushed=False)
        except ValueError as error:
            compared = found is not None and not isinstance(error, safe_paths.PathError)
            yield Damaged(number, version, str(error), compared=compared)
        except OSError as error:
            name = os.path.relpath(error.filename or version, version)
            why = f"{name} cannot be read ({error.strerror})"
            unread = error if machine_faults.is_fault(error) else None
            yield Damaged(number, version, why, unread=unread)


def find(destination: str, number: int) -> Version:
    """Returns the version of a number.

    Raises:
      LookupError: there is no such version.
      StorageError: the object store does not answer, or has no such bucket.
      ValueError: its manifest is not one that was pushed, or it is a symbolic link.
    """
    with filesystems.opened(destination) as (files, path):
        if isinstance(files, LocalFileSystem):
            safe_paths.below(path, str(number))
        text = _read(files, f"{path}/{number}/{MANIFEST}")
        if text is None:
            complete = [
                str(other)
                for other in sorted(publish.numbers(files, path))
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
    with log_if_slow(f"verifying version {version.number}"):
        found = file_digests(copy or version.path)
    expected = version.manifest["files"]
    wrong = []
    for path, digest in expected.items():
        if path not in found:
            wrong.append(f"{path} is missing")
        elif found[path] != digest:
            has, should = f"{found[path]:.12}...", f"{digest:.12}..."
            wrong.append(f"{path} has SHA-256 {has}, expected {should}")
    wrong += [f"{path} was not pushed" for path in found if path not in expected]
    if len(wrong) > _SHOWN:
        wrong[_SHOWN:] = [f"and {len(wrong) - _SHOWN} more"]
    if wrong:
        raise ValueError(", ".join(wrong))


def fetch(version: Version, folder: str) -> None:
    """Copies a version's files, but not its manifest, to a new folder.

    The copy is what is verified: the files may change, or the network fail, meanwhile.

    Raises:
      ValueError: the copy is not what was pushed; nothing is left of it.
      StorageError: the object store does not answer.
    """
    try:
        with (
            log_if_slow(f"copying version {version.number}"),
            filesystems.opened(version.path) as (files, path),
        ):
            for name in file_names(files, path):
                target = safe_paths.below(folder, name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                files.get_file(f"{path}/{name}", target)
        verify(version, folder)
    except filesystems.StorageError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except ValueError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ValueError(f"{version.path} is damaged: {error}") from error
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
      PathError: a file of the model is a symbolic link.
      StorageError: the object store did not take it.
    """
    digests = file_digests(model)
    if not digests:
        raise FileNotFoundError(f"a model's folder must have files, {model} has none")
    full = {"digest": digest_of(digests), **manifest, "files": digests}
    text = json.dumps(full, indent=2) + "\n"
    with log_if_slow(f"copying the model to {destination}"):
        number = publish.put(model, list(digests), destination, text)
    return Version(number, _path(destination, number), full)


def _version(destination: str, number: int, text: bytes) -> Version:
    path = _path(destination, number)
    try:
        manifest = json.loads(text)
        files = manifest["files"]
        for name in dict(files):
            safe_paths.check_name(path, name)
        if not files or not all(isinstance(digest, str) for digest in files.values()):
            raise ValueError("it has no digests of files")
        if manifest["digest"] != digest_of(files):
            raise ValueError("its digest is not that of its files")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{MANIFEST} is not one that was pushed ({type(error).__name__}: {error})"
        ) from error
    return Version(number, path, manifest)


def _read(files: fsspec.AbstractFileSystem, path: str) -> bytes | None:
    try:
        return files.cat_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _path(destination: str, number: int) -> str:
    return f"{destination.rstrip('/')}/{number}"

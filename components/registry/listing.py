"""The versions at the push destination: which there are, and which is served.

A version is a folder `<number>` with a SavedModel and MANIFEST.json, as TF Serving
polls them: it serves the highest number. Here only an intact version counts, one whose
files are those of its manifest: no other is a baseline or a target of a rollback.
"""

import dataclasses
import os
import shutil
from collections.abc import Iterator

import fsspec
from fsspec.implementations.local import LocalFileSystem

from components.registry.manifest import (
    MANIFEST,
    Manifest,
    ManifestError,
    compute_file_digests,
    list_file_names,
)
from components.registry.version_numbers import list_numbers
from model.errors import PipelineError
from model.files import filesystems, machine_faults, safe_paths
from model.training.progress import log_if_slow

_SHOWN = 3  # files that are wrong, in a message


class VersionError(PipelineError):
    """The files of a version are not those that were pushed."""


class NoVersionError(PipelineError):
    """There is no version of this number."""

    is_bad_input = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """A complete version at the push destination."""

    number: int
    path: str  # or the URI
    manifest: Manifest

    @property
    def digest(self) -> str:
        """The model's SHA-256: the same for the same files."""
        return self.manifest.digest


@dataclasses.dataclass(frozen=True, kw_only=True)
class DamagedVersion:
    """A version whose files are missing or changed, or whose manifest is."""

    number: int
    path: str  # or the URI
    why: str  # such as "saved_model.pb is missing"
    has_manifest: bool = True  # whether it has a manifest: else a push may be under way
    is_certain: bool = False  # with its valid manifest: it is damaged for certain
    read_error: OSError | None = None  # the machine's fault: it may be intact

    def describe(self, served: Version | None) -> str:
        """Returns a sentence: why it is damaged, and which version is the baseline."""
        folder = os.path.dirname(self.path)
        instead = f"version {served.number} is" if served else "there is none"
        return (
            f"version {self.number} of {folder} is damaged: {self.why}; it is no "
            f"baseline: {instead}"
        )


def find_served_version(destination: str) -> Version | None:
    """Returns the version that is served: the newest that is intact.

    Raises:
      OSError: the machine could not read it.
      StorageError: the object store does not answer, or has no such bucket.
    """
    return find_served_and_damaged(destination)[0]


def find_served_and_damaged(
    destination: str,
) -> tuple[Version | None, list[DamagedVersion]]:
    """Returns the version that is served, and the damaged ones that are newer.

    A server that reads no manifest may still try to load a damaged one.

    Raises:
      OSError: the machine could not read one, which may be the version that is served.
      StorageError: the object store does not answer, or has no such bucket.
    """
    damaged: list[DamagedVersion] = []
    for found in list_versions(destination):
        if isinstance(found, Version):
            return found, damaged
        if found.read_error:
            raise found.read_error
        damaged.append(found)
    return None, damaged


def read_newest_manifest(destination: str) -> tuple[list[int], bytes | None]:
    """Returns all numbers and the text of the newest one's manifest, if it has one.

    They change with each push. No model is read: a server calls this first at each of
    its polls.

    Raises:
      StorageError: the object store does not answer, or has no such bucket.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        numbers = sorted(list_numbers(files, path))
        manifest = _read(files, f"{path}/{numbers[-1]}/{MANIFEST}") if numbers else None
        return numbers, manifest


def list_versions(destination: str) -> Iterator[Version | DamagedVersion]:
    """Yields the version of each number, the newest first; reads all its files.

    Raises:
      StorageError: the object store does not answer, or has no such bucket.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        numbers = sorted(set(list_numbers(files, path)), reverse=True)
    for number in numbers:
        version = version_path(destination, number)
        found = None
        try:
            found = find_version(destination, number)
            verify_version(found)
            yield found
        except NoVersionError:
            why = f"it has no {MANIFEST}, or not yet"
            yield DamagedVersion(
                number=number, path=version, why=why, has_manifest=False
            )
        except (VersionError, ManifestError, safe_paths.PathError) as error:
            is_certain = found is not None and not isinstance(
                error, safe_paths.PathError
            )
            yield DamagedVersion(
                number=number, path=version, why=str(error), is_certain=is_certain
            )
        except OSError as error:
            name = os.path.relpath(error.filename or version, version)
            why = f"{name} cannot be read ({error.strerror})"
            read_error = error if machine_faults.is_fault(error) else None
            yield DamagedVersion(
                number=number, path=version, why=why, read_error=read_error
            )


def find_version(destination: str, number: int) -> Version:
    """Returns the version of a number.

    Raises:
      NoVersionError: there is no such version.
      StorageError: the object store does not answer, or has no such bucket.
      ManifestError: its manifest is not one that was pushed.
      PathError: it is a symbolic link.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        if isinstance(files, LocalFileSystem):
            safe_paths.join_below(path, str(number))
        text = _read(files, f"{path}/{number}/{MANIFEST}")
        if text is None:
            complete = [
                str(other)
                for other in sorted(list_numbers(files, path))
                if files.exists(f"{path}/{other}/{MANIFEST}")
            ]
    if text is None:
        raise NoVersionError(
            f"the version must be one of those at {destination} "
            f"({', '.join(complete) or 'there are none'}), got {number}"
        )
    path = version_path(destination, number)
    return Version(number=number, path=path, manifest=Manifest.from_json(text, path))


def verify_version(version: Version, copy: str | None = None) -> None:
    """Raises VersionError unless a version's files, or a copy's, are as pushed."""
    with log_if_slow(f"verifying version {version.number}"):
        found = compute_file_digests(copy or version.path)
    expected = version.manifest.files
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
        raise VersionError(", ".join(wrong))


def fetch_version(version: Version, folder: str) -> None:
    """Copies a version's files, but not its manifest, to a new folder.

    The copy is what is verified: the files may change, or the network fail, meanwhile.

    Raises:
      VersionError: the copy is not what was pushed; nothing is left of it.
      StorageError: the object store does not answer.
    """
    try:
        with (
            log_if_slow(f"copying version {version.number}"),
            filesystems.open_filesystem(version.path) as (files, path),
        ):
            for name in list_file_names(files, path):
                target = safe_paths.join_below(folder, name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                files.get_file(f"{path}/{name}", target)
        verify_version(version, folder)
    except (VersionError, safe_paths.PathError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise VersionError(f"{version.path} is damaged: {error}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def count_bytes(destination: str, number: int) -> int:
    """Returns the bytes of all files under a number."""
    with filesystems.open_filesystem(destination) as (files, path):
        found = files.find(f"{path}/{number}", detail=True)
    return sum(info["size"] or 0 for info in found.values())


def version_path(destination: str, number: int) -> str:
    """Returns the path of a version's folder, or its URI."""
    return f"{destination.rstrip('/')}/{number}"


def _read(files: fsspec.AbstractFileSystem, path: str) -> bytes | None:
    """Returns a file's content; None if there is no such file."""
    try:
        return files.cat_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None

"""The list of the versions at the push destination, and the choice of the served one.

A version is a folder `<number>` with a SavedModel and MANIFEST.json. TF Serving polls
the folders and serves the highest number. This module considers only intact versions,
whose files have the digests of the manifest: only they can be a baseline or the target
of a rollback. In an object store, SERVED.json has the numbers of the published
versions, and this module ignores all others; without SERVED.json, which old releases
did not write, each version with a manifest is a published one.
"""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import fsspec
from fsspec.implementations.local import LocalFileSystem

from components.registry.manifest import (
    MANIFEST,
    Manifest,
    ManifestError,
    compute_file_digests,
    list_file_names,
)
from components.registry.retirement import find_retirement, read_retirements
from components.registry.served_pointer import (
    SERVED,
    ServedPointer,
    digest_manifest,
    read_pointer,
)
from components.registry.signed_version import (
    InvalidSignatureError,
    SignedVersion,
    read_signature,
)
from components.registry.version_numbers import is_version_number, list_numbers
from model.errors import PipelineError
from model.files import filesystems, machine_faults, regular_files, safe_paths
from model.training.progress import log_if_slow

if TYPE_CHECKING:
    from components.registry.signatures import Verifier

_SHOWN = 3  # the largest number of damaged files that a message lists


class VersionError(PipelineError):
    """The files of a version are not the ones that were pushed."""


class NoVersionError(PipelineError):
    """There is no version with this number."""

    is_bad_input = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Version:
    """A complete version at the push destination."""

    number: int
    path: str  # the folder's path or URI
    manifest: Manifest
    manifest_digest: str = ""  # SHA-256 of the bytes of MANIFEST.json

    @property
    def digest(self) -> str:
        """Returns the SHA-256 over all files of the model."""
        return self.manifest.digest


@dataclasses.dataclass(frozen=True, kw_only=True)
class DamagedVersion:
    """A version whose manifest or other files are missing, changed or unreadable."""

    number: int
    path: str  # the folder's path or URI
    why: str  # such as "saved_model.pb is missing"
    has_manifest: bool = True  # if False, a push may be running
    is_certain: bool = False  # whether its files differ from a valid manifest
    read_error: OSError | None = None  # a fault of the machine: it may be intact
    is_retired: bool = False  # its files are intact, but nobody may serve it
    spans: tuple[int, ...] = ()  # of a retired version: the numbers of its spans

    def describe(self, served: Version | None) -> str:
        """Returns a message: why the version is damaged, and the baseline instead.

        Args:
          served: the version that is the baseline; None if there is none.
        """
        folder = os.path.dirname(self.path)
        baseline = (
            f"the baseline is version {served.number}"
            if served
            else "there is no baseline"
        )
        state = "not served" if self.is_retired else "damaged"
        return f"version {self.number} of {folder} is {state}: {self.why}; {baseline}"


def find_served_version(
    destination: str, *, verifier: "Verifier | None" = None
) -> Version | None:
    """Returns the served version, which is the newest intact one; None without one.

    Args:
      destination: folder or URI of the versions.
      verifier: verifies the signatures, as in `list_versions`.

    Raises:
      OSError: a fault of the machine prevents reading a version.
      StorageError: the object store does not answer, or has no such bucket.
    """
    return find_served_and_damaged(destination, verifier=verifier)[0]


def find_served_and_damaged(
    destination: str, *, verifier: "Verifier | None" = None
) -> tuple[Version | None, list[DamagedVersion]]:
    """Returns the served version, or None, and the damaged versions that are newer.

    A server that does not read manifests may try to load a damaged version.

    Args:
      destination: folder or URI of the versions.
      verifier: verifies the signatures, as in `list_versions`.

    Raises:
      OSError: a fault of the machine prevents reading a version that may be served.
      StorageError: the object store does not answer, or has no such bucket.
    """
    damaged: list[DamagedVersion] = []
    for found in list_versions(destination, verifier=verifier):
        if isinstance(found, Version):
            return found, damaged
        if found.read_error:
            raise found.read_error
        damaged.append(found)
    return None, damaged


def read_newest_manifest(destination: str) -> tuple[list[int], bytes | None]:
    """Returns all version numbers and the text of the highest number's manifest.

    Both change with each push, so a server can call this function to detect a push: it
    is fast, because it reads no model.

    Args:
      destination: folder or URI of the versions.

    Returns:
      The numbers in ascending order, and the manifest's bytes; None if it is missing
      or no regular file.

    Raises:
      StorageError: the object store does not answer, or has no such bucket.
      ServedPointerError: the object store's SERVED.json is damaged.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        numbers = _list_published(files, path, pointer=_read_pointer(files, path))
        try:
            newest = f"{path}/{numbers[-1]}/{MANIFEST}" if numbers else None
            return numbers, _read(files, newest) if newest else None
        except regular_files.IrregularFileError:  # list_versions gives the reason
            return numbers, None


def list_unpublished(destination: str) -> list[int]:
    """Returns the numbers of uploads to an object store that were not published.

    Their pushes were killed, were overtaken or are still running.

    Args:
      destination: folder or URI of the versions.

    Raises:
      StorageError: the object store does not answer, or has no such bucket.
      ServedPointerError: the object store's SERVED.json is damaged.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        pointer = _read_pointer(files, path)
        if pointer is None:
            return []
        return sorted(set(list_numbers(files, path)) - set(pointer.published))


def count_versions(destination: str) -> int:
    """Returns the number of published versions that have a manifest.

    Args:
      destination: folder or URI of the versions.

    Raises:
      StorageError: the object store does not answer, or has no such bucket.
      ServedPointerError: the object store's SERVED.json is damaged.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        numbers = _list_published(files, path, pointer=_read_pointer(files, path))
        return sum(files.exists(f"{path}/{number}/{MANIFEST}") for number in numbers)


def list_versions(
    destination: str, *, verifier: "Verifier | None" = None
) -> Iterator[Version | DamagedVersion]:
    """Yields each version, intact or damaged, in descending order of the numbers.

    All files of a version are read and compared with its manifest. A retired version
    is yielded as a damaged one, so that nothing serves it.

    Args:
      destination: folder or URI of the versions.
      verifier: makes a version without a valid signature a damaged one; None: nobody
        asks for signatures.

    Raises:
      StorageError: the object store does not answer, or has no such bucket.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        pointer = _read_pointer(files, path)
        numbers = _list_published(files, path, pointer=pointer)
    retired = read_retirements(destination)
    for number in reversed(numbers):
        version = version_path(destination, number)
        found = None
        try:
            found = _find_version(destination, number, pointer=pointer)
            verify_signature(found, verifier)
            verify_version(found)
            record = find_retirement(
                retired,
                number,
                digest=found.digest,
                singleprint=found.manifest.singleprint,
            )
            if record is None:
                yield found
            else:
                why = record.describe()
                yield DamagedVersion(
                    number=number,
                    path=version,
                    why=why,
                    is_retired=True,
                    spans=found.manifest.spans or (),
                )
        except NoVersionError:
            why = f"it has no {MANIFEST} yet"
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
        except InvalidSignatureError as error:
            yield DamagedVersion(number=number, path=version, why=str(error))
        except OSError as error:
            name = os.path.relpath(error.filename or version, version)
            why = f"{name} cannot be read ({error.strerror})"
            read_error = error if machine_faults.is_fault(error) else None
            yield DamagedVersion(
                number=number, path=version, why=why, read_error=read_error
            )


def find_version(destination: str, number: int) -> Version:
    """Returns the version with a number; reads its manifest and no other file.

    Args:
      destination: folder or URI of the versions.
      number: the version's number.

    Raises:
      NoVersionError: there is no version with this number and a manifest.
      StorageError: the object store does not answer, or has no such bucket.
      ManifestError: the manifest is damaged.
      PathError: the version's folder is a symbolic link, or it or the manifest is a
        named pipe, a socket or a device.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        pointer = _read_pointer(files, path)
    return _find_version(destination, number, pointer=pointer)


def _find_version(
    destination: str, number: int, *, pointer: ServedPointer | None
) -> Version:
    """Returns the version with a number, as `find_version` does.

    Args:
      destination: folder or URI of the versions.
      number: the version's number.
      pointer: the object store's SERVED.json; None if there is none.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        is_number = is_version_number(number)
        if is_number and isinstance(files, LocalFileSystem):
            _check_folder(safe_paths.join_below(path, str(number)))
        text = None
        if is_number and (pointer is None or number in pointer.published):
            text = _read(files, f"{path}/{number}/{MANIFEST}")
        if text is None:
            complete = [
                str(other)
                for other in _list_published(files, path, pointer=pointer)
                if files.exists(f"{path}/{other}/{MANIFEST}")
            ]
    if text is None:
        raise NoVersionError(
            f"the version must be one of those at {destination} "
            f"({', '.join(complete) or 'there are none'}), got {number}"
        )
    path = version_path(destination, number)
    manifest, digest = Manifest.from_json(text, path), digest_manifest(text)
    if pointer is not None and number == pointer.version and digest != pointer.manifest:
        raise ManifestError(
            f"{MANIFEST} is not the one that was published (its SHA-256 is not that in "
            f"{SERVED})"
        )
    return Version(
        number=number,
        path=path,
        manifest=manifest,
        manifest_digest=digest,
    )


def verify_version(version: Version, copy: str | None = None) -> None:
    """Raises VersionError unless all files have the digests of the version's manifest.

    Args:
      version: the version to check.
      copy: folder with a copy of the version's files, to check instead of them.
    """
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


def verify_signature(version: Version, verifier: "Verifier | None") -> None:
    """Checks that a version's manifest and its digests of files are signed.

    `verify_version` and `fetch_version` then compare the files with these digests.

    Args:
      version: the version to check.
      verifier: None: nobody asks for signatures, and this does nothing.

    Raises:
      InvalidSignatureError: there is no signature, or it is not one of the key, or not
        of this version under its number and at its destination.
    """
    if verifier is None:
        return
    expected = SignedVersion(
        number=version.number,
        previous=version.manifest.content.get("previous"),
        destination=verifier.destination,
        files={**version.manifest.files, MANIFEST: version.manifest_digest},
    )
    verifier.verify(read_signature(version.path), expected)


def fetch_version(version: Version, folder: str) -> None:
    """Copies a version's files, without its manifest, to a folder and verifies them.

    The folder is removed if this fails.

    Args:
      version: the version to copy.
      folder: the local folder to write.

    Raises:
      VersionError: the copied files do not have the digests of the manifest.
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
                _copy_file(files, f"{path}/{name}", target=target)
        verify_version(version, folder)
    except (VersionError, safe_paths.PathError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise VersionError(f"{version.path} is damaged: {error}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def count_bytes(destination: str, number: int) -> int:
    """Returns the total size in bytes of all files of a version."""
    with filesystems.open_filesystem(destination) as (files, path):
        found = files.find(f"{path}/{number}", detail=True)
    return sum(info["size"] or 0 for info in found.values())


def version_path(destination: str, number: int) -> str:
    """Returns the path or URI of a version's folder."""
    return f"{destination.rstrip('/')}/{number}"


def _read_pointer(files: fsspec.AbstractFileSystem, path: str) -> ServedPointer | None:
    """Returns SERVED.json of an object store; None without it, and for a folder."""
    return (
        None
        if isinstance(files, LocalFileSystem)
        else read_pointer(files, path).pointer
    )


def _list_published(
    files: fsspec.AbstractFileSystem, path: str, *, pointer: ServedPointer | None
) -> list[int]:
    """Returns the numbers of the versions that readers may use, in ascending order."""
    numbers = set(list_numbers(files, path))
    return sorted(numbers if pointer is None else numbers & set(pointer.published))


def _read(files: fsspec.AbstractFileSystem, path: str) -> bytes | None:
    """Returns the content of a file; None if the file is missing."""
    try:
        return regular_files.read_stored(files, path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _check_folder(path: str) -> None:
    """Raises IrregularFileError if the path is a named pipe, a socket or a device."""
    try:
        kind = regular_files.describe_kind(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    if kind:
        raise regular_files.IrregularFileError(
            f"{path} must be a folder, but it is {kind}: remove it"
        )


def _copy_file(files: fsspec.AbstractFileSystem, path: str, *, target: str) -> None:
    """Copies an object, or a regular file of this machine, to a local file."""
    if not isinstance(files, LocalFileSystem):
        files.get_file(path, target)
        return
    with regular_files.open_regular(path) as source, open(target, "wb") as file:
        shutil.copyfileobj(source, file)

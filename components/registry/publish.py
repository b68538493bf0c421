"""The publication and removal of versions.

A version is published only if the version that the caller measured against is still
the served one. This check and the publication are one operation.

A local folder gets a complete version by one rename, under a lock. An object store
cannot rename, so its files are uploaded one by one, in this order: variables and
assets; saved_model.pb, without which TF Serving finds no model and tries again later;
model.sig, if versions are signed; MANIFEST.json. One conditional write of SERVED.json
then publishes the version. A push that fails half-way leaves a number that SERVED.json
does not have, and later pushes do not use this number.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import fsspec

from components.registry import listing, push_lock, served_pointer
from components.registry.listing import Version, version_path
from components.registry.manifest import (
    MANIFEST,
    SIGNATURE,
    Manifest,
    compute_file_digests,
)
from components.registry.served_pointer import ReadPointer, ServedPointer
from components.registry.version_numbers import (
    CLAIM,
    claim_number,
    list_numbers,
    next_number,
)
from model.errors import PipelineError
from model.files import filesystems
from model.training.progress import log_if_slow

if TYPE_CHECKING:
    from components.registry.signatures import Signer, Verifier

_STAGING = ".staging-"
_LAST = ("fingerprint.pb", "saved_model.pb")  # a model's files to upload last

# Returns the content of model.sig; the keyword `number` is the version's number.
_Sign = Callable[..., bytes]
# Returns the name and the text of a file to write beside the versions, for the number
# of the version that is about to be published.
Companion = Callable[[int], tuple[str, str]]


class OvertakenError(PipelineError):
    """Another version is served than the one that the caller measured against."""

    def __init__(self, message: str, served: int | None = None):
        """Initializes the error.

        Args:
          message: the text for people.
          served: the version that is served now; None: nothing.
        """
        super().__init__(message)
        self.served = served


@dataclasses.dataclass(frozen=True, kw_only=True)
class PushRules:
    """What the settings require of every push to a destination."""

    # Whether to publish also in an object store without conditional writes, because
    # nobody else pushes there.
    single_writer: bool = False
    signer: "Signer | None" = None  # signs the version; None: it has no signature
    # Verifies the signature of the served version; None: all versions count.
    verifier: "Verifier | None" = None


_NO_RULES = PushRules()


def publish_version(
    model_dir: str,
    *,
    destination: str,
    manifest: Manifest,
    replaces: int | None,
    rules: PushRules = _NO_RULES,
    companion: Companion | None = None,
) -> Version:
    """Publishes a model as the next version, if `replaces` is still the served one.

    Args:
      model_dir: folder of the SavedModel.
      destination: folder or URI of the versions.
      manifest: facts about the model; the digests of the files and the previous version
        are added here.
      replaces: the served version that the caller measured against; None if nothing
        was served.
      rules: what the settings require.
      companion: makes a file that is written beside the versions after the check and
        just before the publication.

    Returns:
      The version, with its number, its path and the complete manifest.

    Raises:
      OvertakenError: another version is served; nothing was published.
      UnconditionalStoreError: the object store ignores the conditions of writes.
      ServedPointerError: the object store's SERVED.json is damaged.
      PushLockError: another process holds the folder's lock for too long.
      FileNotFoundError: the model's folder is empty or missing.
      PathError: a file of the model is a symbolic link.
      OSError: the folder can't be written.
      StorageError: the upload to the object store failed.
    """
    digests = compute_file_digests(model_dir)
    if not digests:
        raise FileNotFoundError(
            f"a model's folder must have files, {model_dir} has none"
        )
    manifest = manifest.with_files(digests).with_previous(replaces)
    text = manifest.to_json()
    sign: _Sign | None = None
    if rules.signer is not None:
        sign = functools.partial(
            rules.signer.sign, previous=replaces, manifest=text, files=digests
        )
    push = _Push(
        destination=destination,
        replaces=replaces,
        manifest=text,
        companion=companion,
        sign=sign,
        rules=rules,
    )
    folder = filesystems.local_path(destination)
    with log_if_slow(f"copying the model to {destination}"):
        if folder is not None:
            number = _publish_in_folder(model_dir, folder=folder, push=push)
        else:
            number = _publish_in_store(model_dir, list(digests), push=push)
    return Version(
        number=number,
        path=version_path(destination, number),
        manifest=manifest,
        manifest_digest=served_pointer.digest_manifest(text.encode()),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Push:
    """The arguments of a push."""

    destination: str
    replaces: int | None
    manifest: str  # the text of MANIFEST.json
    companion: Companion | None
    rules: PushRules
    sign: _Sign | None

    def check(self) -> None:
        """Raises OvertakenError unless the version to replace is the served one."""
        served = listing.find_served_version(
            self.destination, verifier=self.rules.verifier
        )
        number = served.number if served else None
        if number != self.replaces:
            raise self.describe_overtaking(number)

    def describe_overtaking(self, served: int | None) -> OvertakenError:
        """Returns the error that names the version that is served now."""
        now = f"version {served}" if served else "nothing"
        expected = f"version {self.replaces}" if self.replaces else "nothing"
        return OvertakenError(
            f"{now} is served now at {self.destination}, but the new version was made "
            f"to replace {expected}: nothing was published; look at `versions`, and "
            "repeat the command to compare with what is served",
            served,
        )


def remove_versions(destination: str, numbers: Sequence[int]) -> None:
    """Removes versions, and the temporary folders of killed pushes.

    In a local folder, one rename takes a version away before its files are removed. In
    an object store, the manifest is removed first, so that readers ignore a version
    that is partly removed. Claims of numbers are not removed.

    Args:
      destination: folder or URI of the versions.
      numbers: the versions to remove; missing ones are ignored in a local folder.

    Raises:
      OSError: the folder can't be written.
      StorageError: the removal in the object store failed.
    """
    folder = filesystems.local_path(destination)
    if folder is not None:
        if not os.path.isdir(folder):
            return
        with push_lock.hold_lock(folder):
            for number in numbers:
                staging = tempfile.mkdtemp(prefix=_STAGING, dir=folder)
                with contextlib.suppress(FileNotFoundError):
                    os.rename(os.path.join(folder, str(number)), f"{staging}/{number}")
            _remove_staging(folder)
        return
    with filesystems.open_filesystem(destination) as (files, path):
        for number in numbers:
            if files.exists(f"{path}/{number}/{MANIFEST}"):
                files.rm_file(f"{path}/{number}/{MANIFEST}")
            files.rm(f"{path}/{number}", recursive=True)


def write_beside_versions(destination: str, name: str, *, text: str) -> None:
    """Writes or replaces a text file in the folder of the versions, atomically.

    Args:
      destination: folder or URI of the versions.
      name: the file's name.
      text: the new content.
    """
    folder = filesystems.local_path(destination)
    if folder is None:
        with filesystems.open_filesystem(destination) as (files, path):
            files.pipe_file(f"{path}/{name}", text.encode())
        return
    with push_lock.hold_lock(folder):
        _write_in_folder(folder, name, text=text)


def remove_beside_versions(destination: str, name: str) -> None:
    """Removes a file in the folder of the versions; a missing one is ignored.

    Args:
      destination: folder or URI of the versions.
      name: the file's name.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        if files.exists(f"{path}/{name}"):
            files.rm_file(f"{path}/{name}")


def _write_in_folder(folder: str, name: str, *, text: str) -> None:
    """Writes or replaces a file, atomically; the caller must hold the lock."""
    staging = pathlib.Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
    try:
        (staging / name).write_text(text, encoding="utf-8")
        (staging / name).chmod(filesystems.FILE)
        _sync_files(str(staging))
        os.rename(staging / name, os.path.join(folder, name))
        _sync_folder(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish_in_folder(model_dir: str, *, folder: str, push: _Push) -> int:
    """Copies a model and its manifest to a new version of a folder; returns its number.

    The files are written to a temporary folder, synced to the disk and then renamed:
    readers never see an incomplete version, even if the push is killed. A lock makes a
    second push wait for the first. The check comes just before the rename.
    """
    filesystems.make_public_folder(folder)
    # Without the lock, a second push would remove this push's temporary folder.
    with push_lock.hold_lock(folder):
        _remove_staging(folder)
        staging = tempfile.mkdtemp(prefix=_STAGING, dir=folder)
        try:
            shutil.copytree(model_dir, staging, dirs_exist_ok=True)
            pathlib.Path(staging, MANIFEST).write_text(push.manifest, encoding="utf-8")
            push.check()
            number = next_number(list_numbers(*filesystems.find_filesystem(folder)))
            if push.sign is not None:
                pathlib.Path(staging, SIGNATURE).write_bytes(push.sign(number=number))
            _set_public_modes(staging)
            _sync_files(staging)
            if push.companion is not None:
                name, text = push.companion(number)
                _write_in_folder(folder, name, text=text)
            os.rename(staging, os.path.join(folder, str(number)))
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _sync_folder(folder)
    return number


def _remove_staging(folder: str) -> None:
    """Removes the temporary folders of killed pushes; the caller must hold the lock."""
    for name in os.listdir(folder):
        if name.startswith(_STAGING):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def _publish_in_store(model_dir: str, names: Sequence[str], *, push: _Push) -> int:
    """Uploads a model and its manifest as a new version; returns its number.

    The module's docstring explains the order of the files.
    """
    with filesystems.open_filesystem(push.destination) as (files, path):
        number = claim_number(files, path)
        is_conditional = served_pointer.refuses_unmet_conditions(
            files, f"{path}/{CLAIM}{number}"
        )
    if not is_conditional and not push.rules.single_writer:
        raise served_pointer.UnconditionalStoreError(
            f"the object store of {push.destination} must refuse a write whose "
            "condition (If-None-Match, If-Match) is not met, but it made the write: "
            "two pushes at the same time could replace each other's version; if only "
            "one process at a time ever pushes there, set push.single_writer=true"
        )
    push.check()
    with filesystems.open_filesystem(push.destination) as (files, path):
        # Before the first upload of a manifest, because without SERVED.json readers
        # take every version that has one.
        _take_over_versions(files, path, is_conditional=is_conditional)
        for name in sorted(names, key=lambda name: (name in _LAST, name)):
            files.put_file(os.path.join(model_dir, name), f"{path}/{number}/{name}")
        if push.sign is not None:
            files.pipe_file(f"{path}/{number}/{SIGNATURE}", push.sign(number=number))
        files.pipe_file(f"{path}/{number}/{MANIFEST}", push.manifest.encode())
    try:
        _publish_upload(number, push=push, is_conditional=is_conditional)
    except OvertakenError:
        # Readers ignore the upload. So it may stay if the store does not let this
        # process remove it.
        with contextlib.suppress(filesystems.StorageError):
            remove_versions(push.destination, [number])
        raise
    return number


def _publish_upload(number: int, *, push: _Push, is_conditional: bool) -> None:
    """Publishes an uploaded version by a write of SERVED.json.

    Raises:
      OvertakenError: another push or rollback was faster.
    """
    has_companion = False
    while True:
        # SERVED.json is read before the check and replaced only if it is unchanged
        # then: so what was checked holds at the moment of the publication.
        with filesystems.open_filesystem(push.destination) as (files, path):
            before = served_pointer.read_pointer(files, path)
        push.check()
        pointer = before.pointer or served_pointer.NOTHING
        if pointer.version is not None and pointer.version > number:
            # A higher number that is damaged now was published after this number had
            # been claimed.
            raise push.describe_overtaking(pointer.version)
        if push.companion is not None and not has_companion:
            name, text = push.companion(number)
            write_beside_versions(push.destination, name, text=text)
            has_companion = True
        with filesystems.open_filesystem(push.destination) as (files, path):
            is_published = served_pointer.replace_pointer(
                files,
                path,
                before=before,
                pointer=pointer.with_version(number, push.manifest.encode()),
                is_conditional=is_conditional,
            )
        if is_published:
            return


def _take_over_versions(
    files: fsspec.AbstractFileSystem, path: str, *, is_conditional: bool
) -> None:
    """Writes the first SERVED.json, which has all versions with a manifest.

    Does nothing if there is a SERVED.json.
    """
    before = served_pointer.read_pointer(files, path)
    if before.pointer is not None:
        return
    pointer: ServedPointer = served_pointer.NOTHING
    for number in sorted(list_numbers(files, path)):
        if files.exists(f"{path}/{number}/{MANIFEST}"):
            text = files.cat_file(f"{path}/{number}/{MANIFEST}")
            pointer = pointer.with_version(number, text)
    served_pointer.replace_pointer(
        files,
        path,
        before=ReadPointer(None, None),
        pointer=pointer,
        is_conditional=is_conditional,
    )


def _set_public_modes(directory: str) -> None:
    """Sets modes so that all users can read, and only the owner can write, all files.

    The modes that the model has, or that mkdtemp and the umask give, may exclude the
    user of a model server, or let other users write.
    """
    for folder, _, names in os.walk(directory):
        os.chmod(folder, filesystems.FOLDER)
        for name in names:
            os.chmod(os.path.join(folder, name), filesystems.FILE)


def _sync_files(directory: str) -> None:
    """Makes the disk store all files and folders below a folder, and the folder."""
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

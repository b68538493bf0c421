"""Publication of versions, and their removal.

In a folder, a version appears under its number by one rename, complete. An object store
cannot rename: there the files appear one by one. The variables and assets are uploaded
first; saved_model.pb is the last file of the model, because TF Serving finds no model
to load without it and tries again; MANIFEST.json is the last file of all, and readers
ignore a version without one. A push that dies half-way leaves a number without a
manifest, which the next push does not use.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence

import filelock

from components.registry.listing import Version, version_path
from components.registry.manifest import MANIFEST, Manifest, compute_file_digests
from components.registry.version_numbers import claim_number, list_numbers, next_number
from model.files import filesystems
from model.training.progress import log_if_slow

_STAGING = ".staging-"
_LOCK = ".pushing.lock"
_LAST = ("fingerprint.pb", "saved_model.pb")  # of a model's files, in an object store


def publish_version(model_dir: str, *, destination: str, manifest: Manifest) -> Version:
    """Publishes a model as the next version, atomically.

    Args:
      model_dir: folder of the SavedModel.
      destination: folder or URI of the versions.
      manifest: facts about the model; the files' digests are added here.

    Raises:
      FileNotFoundError: there is no model.
      PathError: a file of the model is a symbolic link.
      StorageError: the object store did not take it.
    """
    digests = compute_file_digests(model_dir)
    if not digests:
        raise FileNotFoundError(
            f"a model's folder must have files, {model_dir} has none"
        )
    manifest = manifest.with_files(digests)
    text = manifest.to_json()
    folder = filesystems.local_path(destination)
    with log_if_slow(f"copying the model to {destination}"):
        if folder is not None:
            number = _publish_in_folder(model_dir, folder=folder, manifest=text)
        else:
            number = _publish_in_store(
                model_dir, list(digests), destination=destination, manifest=text
            )
    return Version(
        number=number, path=version_path(destination, number), manifest=manifest
    )


def remove_versions(destination: str, numbers: Sequence[int]) -> None:
    """Removes versions, and what killed pushes to a folder left; claims stay.

    A folder's version is removed by one rename. In an object store the manifest is
    removed first: readers ignore a version that is partly removed.

    Raises:
      OSError: a folder cannot be written.
      StorageError: the object store did not do it.
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
    with filesystems.open_filesystem(destination) as (files, path):
        for number in numbers:
            if files.exists(f"{path}/{number}/{MANIFEST}"):
                files.rm_file(f"{path}/{number}/{MANIFEST}")
            files.rm(f"{path}/{number}", recursive=True)


def write_beside_versions(destination: str, name: str, *, text: str) -> None:
    """Writes or replaces a file beside the versions, atomically."""
    folder = filesystems.local_path(destination)
    if folder is None:
        with filesystems.open_filesystem(destination) as (files, path):
            files.pipe_file(f"{path}/{name}", text.encode())
        return
    with filelock.FileLock(os.path.join(folder, _LOCK), mode=filesystems.FILE):
        staging = pathlib.Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
        (staging / name).write_text(text, encoding="utf-8")
        (staging / name).chmod(filesystems.FILE)
        _sync_files(str(staging))
        os.rename(staging / name, os.path.join(folder, name))
        _sync_folder(folder)
        _remove_staging(folder)


def _publish_in_folder(model_dir: str, *, folder: str, manifest: str) -> int:
    """Writes under a name that is no version's, syncs, then renames.

    A reader never sees a version without all its files, whenever the push is killed.
    A second push waits for the first.
    """
    filesystems.make_public_folder(folder)
    # A push at the same time would take this one's staging for a killed one's.
    with filelock.FileLock(os.path.join(folder, _LOCK), mode=filesystems.FILE):
        _remove_staging(folder)
        staging = tempfile.mkdtemp(prefix=_STAGING, dir=folder)
        try:
            shutil.copytree(model_dir, staging, dirs_exist_ok=True)
            pathlib.Path(staging, MANIFEST).write_text(manifest, encoding="utf-8")
            _set_public_modes(staging)
            _sync_files(staging)
            number = next_number(list_numbers(*filesystems.find_filesystem(folder)))
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


def _publish_in_store(
    model_dir: str, names: Sequence[str], *, destination: str, manifest: str
) -> int:
    """Uploads the files one by one, in the order that the module's docstring gives."""
    with filesystems.open_filesystem(destination) as (files, path):
        number = claim_number(files, path)
        for name in sorted(names, key=lambda name: (name in _LAST, name)):
            files.put_file(os.path.join(model_dir, name), f"{path}/{number}/{name}")
        files.pipe_file(f"{path}/{number}/{MANIFEST}", manifest.encode())
    return number


def _set_public_modes(directory: str) -> None:
    """Sets the mode of every file and folder.

    The modes of the model, of mkdtemp and of the umask may keep a model server's user
    out, or let others write.
    """
    for folder, _, names in os.walk(directory):
        os.chmod(folder, filesystems.FOLDER)
        for name in names:
            os.chmod(os.path.join(folder, name), filesystems.FILE)


def _sync_files(directory: str) -> None:
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

"""The publication and removal of versions.

A local folder gets a complete version by one rename. An object store cannot rename, so
its files are uploaded one by one, in this order: variables and assets; saved_model.pb,
without which TF Serving finds no model and tries again later; MANIFEST.json, without
which readers ignore the version. A push that fails half-way leaves a number without a
manifest, and later pushes do not use this number.
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
_LAST = ("fingerprint.pb", "saved_model.pb")  # a model's files to upload last


def publish_version(model_dir: str, *, destination: str, manifest: Manifest) -> Version:
    """Publishes a model as the next version, atomically.

    Args:
      model_dir: folder of the SavedModel.
      destination: folder or URI of the versions.
      manifest: facts about the model; the digests of the files are added here.

    Returns:
      The version, with its number, its path and the complete manifest.

    Raises:
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
    with filelock.FileLock(os.path.join(folder, _LOCK), mode=filesystems.FILE):
        staging = pathlib.Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
        (staging / name).write_text(text, encoding="utf-8")
        (staging / name).chmod(filesystems.FILE)
        _sync_files(str(staging))
        os.rename(staging / name, os.path.join(folder, name))
        _sync_folder(folder)
        _remove_staging(folder)


def _publish_in_folder(model_dir: str, *, folder: str, manifest: str) -> int:
    """Copies a model and its manifest to a new version of a folder; returns its number.

    The files are written to a temporary folder, synced to the disk and then renamed:
    readers never see an incomplete version, even if the push is killed. A lock makes a
    second push wait for the first.
    """
    filesystems.make_public_folder(folder)
    # Without the lock, a second push would remove this push's temporary folder.
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
    """Removes the temporary folders of killed pushes; the caller must hold the lock."""
    for name in os.listdir(folder):
        if name.startswith(_STAGING):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def _publish_in_store(
    model_dir: str, names: Sequence[str], *, destination: str, manifest: str
) -> int:
    """Uploads a model and its manifest as a new version; returns its number.

    The module's docstring explains the order of the files.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        number = claim_number(files, path)
        for name in sorted(names, key=lambda name: (name in _LAST, name)):
            files.put_file(os.path.join(model_dir, name), f"{path}/{number}/{name}")
        files.pipe_file(f"{path}/{number}/{MANIFEST}", manifest.encode())
    return number


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

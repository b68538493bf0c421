"""What a version's manifest says of its files: the SHA-256 of each, and one of all."""

import hashlib
from collections.abc import Mapping

import fsspec
from fsspec.implementations.local import LocalFileSystem

from model.files import filesystems, safe_paths

MANIFEST = "MANIFEST.json"
VERDICT = "VERDICT.json"  # of a run's gate, in what its Pusher leaves


def file_digests(directory: str) -> dict[str, str]:
    """Returns the SHA-256 of each file below a folder but its manifest, by path.

    Raises:
      PathError: a file's name leads out of the folder.
      StorageError: the object store does not answer.
    """
    digests = {}
    with filesystems.opened(directory) as (files, path):
        for name in file_names(files, path):
            digest = hashlib.sha256()
            with files.open(f"{path}/{name}", "rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            digests[name] = digest.hexdigest()
    return digests


def digest_of(digests: Mapping[str, str]) -> str:
    """Returns one SHA-256 over the paths and digests of a model's files."""
    lines = (f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_names(files: fsspec.AbstractFileSystem, path: str) -> list[str]:
    """Returns the paths of the files below a folder but its manifest, sorted.

    Raises:
      PathError: one leads out of the folder, by its name or as a symbolic link.
    """
    if isinstance(files, LocalFileSystem):
        safe_paths.refuse_links(path)
    names = [found[len(path) + 1 :] for found in files.find(path)]
    # An object store may have empty objects that stand for folders.
    names = sorted(
        name for name in names if name not in ("", MANIFEST) and not name.endswith("/")
    )
    for name in names:
        safe_paths.check_name(
            path, name
        )  # an object's name may be any; a copy's may not
    return names

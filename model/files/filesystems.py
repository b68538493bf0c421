"""Where versions are kept: a folder, or an object store by its URI, through fsspec.

`s3://` and `gs://` find endpoint and credentials as botocore and google-auth do: in the
environment, their files, or the machine's service account. `minio://` is S3 too, as
Kubeflow Pipelines writes it: without AWS_ENDPOINT_URL it is the MinIO of its cluster.
"""

import contextlib
import os
from collections.abc import Iterator

import fsspec

from model.errors import PipelineError
from model.files.safe_paths import PathError, expand_home

# Where KFP's own launcher looks for MinIO (DefaultMinioEndpointInMultiUserMode).
KFP_MINIO = "http://minio-service.kubeflow:9000"

_PROTOCOLS = {"minio": "s3", "s3": "s3", "gs": "gs"}  # those of fsspec
SCHEMES = tuple(_PROTOCOLS)  # of object stores
FOLDER, FILE = 0o755, 0o644  # modes of what other users read

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # botocore reads them itself


class StorageError(PipelineError):
    """An object store did not do what was asked; the message names the URI."""


def local_path(uri: str) -> str | None:
    """Returns the absolute path of a folder, or None if the URI is an object store's.

    Raises:
      PathError: the URI is of neither, or is an object store's and has `..` in it; or
        there is no such home.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        return os.path.abspath(expand_home(rest if separator else uri))
    if scheme not in _PROTOCOLS or not rest.strip("/"):
        known = ", ".join(f"{scheme}://bucket/folder" for scheme in _PROTOCOLS)
        raise PathError(f"a destination must be a folder or {known}, got {uri!r}")
    if {".", ".."} & set(rest.split("/")):
        raise PathError(
            f"an object store's URI must have no . or .. in it, got {uri!r}"
        )
    return None


def make_public_folder(path: str) -> None:
    """Makes a folder, and those above it that are missing, for other users to read.

    The umask has no part in their modes.

    Raises:
      OSError: a folder cannot be made.
    """
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        try:
            os.mkdir(folder)
        except FileExistsError:
            if not os.path.isdir(folder):  # else another process has just made it
                raise
        else:
            os.chmod(folder, FOLDER)


def find_filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Returns the file system of a URI or path, and the path in it.

    Listings are not remembered, for other processes write there too. What the libraries
    read of the environment is, for this process.

    Raises:
      PathError: the scheme is unknown, or there is no bucket.
    """
    path = local_path(uri)
    if path is not None:
        return fsspec.filesystem("file"), path
    scheme, _, path = uri.partition("://")
    options = {}
    if scheme == "minio" and not any(os.environ.get(name) for name in _ENDPOINTS):
        options["endpoint_url"] = KFP_MINIO
    files = fsspec.filesystem(_PROTOCOLS[scheme], use_listings_cache=False, **options)
    return files, path.strip("/")


@contextlib.contextmanager
def open_filesystem(uri: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """Gives what `find_filesystem` returns, for a block that does nothing but use it.

    Raises:
      StorageError: in place of whatever an object store's libraries raise; a folder's
        errors are left as they are.
    """
    if local_path(uri) is not None:
        yield find_filesystem(uri)
        return
    try:
        yield find_filesystem(uri)
    except (StorageError, PathError):
        raise
    except Exception as error:  # each library has classes of its own
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise StorageError(
            f"can't use {uri} ({text.rstrip('.')}): the bucket must exist, the "
            "endpoint answer (AWS_ENDPOINT_URL is that of s3:// and minio://), and the "
            "credentials allow to list, read and write"
        ) from error

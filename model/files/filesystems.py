"""Access to local folders and object stores through fsspec.

`s3://` and `gs://` get their endpoint and credentials from botocore and google-auth:
from environment variables, from the files of these libraries, or from the machine's
service account. `minio://` is Kubeflow Pipelines' scheme for S3: if AWS_ENDPOINT_URL is
not set, it is the MinIO of the cluster.
"""

import contextlib
import os
from collections.abc import Iterator

import fsspec

from model.errors import PipelineError
from model.files import locations
from model.files.safe_paths import PathError, expand_home

# Where KFP's own launcher looks for MinIO (DefaultMinioEndpointInMultiUserMode).
KFP_MINIO = "http://minio-service.kubeflow:9000"

FOLDER, FILE = 0o755, 0o644  # modes of folders and files that other users may read

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # botocore reads them itself


class StorageError(PipelineError):
    """An operation of an object store failed; the message names the URI."""


def local_path(uri: str) -> str | None:
    """Returns the absolute path of a local folder; None for an object store's URI.

    Args:
      uri: a path, which may begin with `~`, a `file://` URI or an object store's URI.

    Raises:
      PathError: `locations.parse` refuses the URI, or the home folder of `~` does not
        exist.
    """
    location = locations.parse(uri)
    if location.scheme:
        return None
    return os.path.abspath(expand_home(location.path))


def make_public_folder(path: str) -> None:
    """Makes a folder and its missing parents, which all users may read.

    Their mode does not depend on the umask.

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
    """Returns the fsspec file system of a URI or path, and the path inside it.

    Listings are not cached, because other processes may write there, too. fsspec caches
    the file system, so later changes of the environment's variables have no effect.

    Raises:
      PathError: `locations.parse` refuses the URI.
    """
    path = local_path(uri)
    if path is not None:
        return fsspec.filesystem("file"), path
    location = locations.parse(uri)
    options = {}
    if location.scheme == "minio" and not any(
        os.environ.get(name) for name in _ENDPOINTS
    ):
        options["endpoint_url"] = KFP_MINIO
    # fsspec's protocols have the schemes' names, but it does not know `minio`.
    protocol = "s3" if location.scheme == "minio" else location.scheme
    files = fsspec.filesystem(protocol, use_listings_cache=False, **options)
    return files, location.path.rstrip("/")


@contextlib.contextmanager
def open_filesystem(uri: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """Yields the file system and the path of a URI, and converts the block's errors.

    Every error in the block is reported as an object store's error, so the block should
    only use the file system. Errors of a local folder are not converted.

    Raises:
      StorageError: the block raised an error, and the URI is an object store's.
    """
    if local_path(uri) is not None:
        yield find_filesystem(uri)
        return
    try:
        yield find_filesystem(uri)
    except (StorageError, PathError):
        raise
    except Exception as error:  # each library has its own classes of errors
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise StorageError(
            f"can't use {uri} ({text.rstrip('.')}): the bucket must exist, the "
            "endpoint answer (AWS_ENDPOINT_URL is that of s3:// and minio://), and the "
            "credentials allow to list, read and write"
        ) from error

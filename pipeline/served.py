"""A model that was pushed, for commands that use it: its SavedModel alone."""

import contextlib
import tempfile
from collections.abc import Iterator

from components import versions
from model import storage
from pipeline import config


def destination(resolved: config.PipelineConfig, root: str) -> str:
    """Returns the folder of versions, or its URI.

    Args:
      resolved: names the push destination.
      root: of local runs, below which it is where nothing is named.

    Raises:
      ValueError: it is neither a folder nor a URI that is known.
    """
    serving = resolved.push.versions_in(f"{root}/serving")
    return storage.local_path(serving) or serving


@contextlib.contextmanager
def fetched(
    resolved: config.PipelineConfig, root: str, number: int | None
) -> Iterator[tuple[versions.Version, str]]:
    """Gives a version and the folder of a verified copy, which the block may use.

    Args:
      resolved: names the push destination.
      root: of local runs.
      number: of the version; None for the one that is served.

    Raises:
      ConfigError: there is no such version.
      ValueError: nothing is served, or its files are not those that were pushed.
      StorageError: the object store does not answer.
    """
    version = _version(destination(resolved, root), number)
    with tempfile.TemporaryDirectory() as folder:
        versions.fetch(version, folder)
        yield version, folder


def _version(folder: str, number: int | None) -> versions.Version:
    if number is not None:
        try:
            return versions.find(folder, number)
        except LookupError as error:
            raise config.ConfigError(f"--version: {error}") from error
    version = versions.served(folder)
    if version is None:
        raise ValueError(
            f"nothing is served at {folder}: `run` first, or name the place by "
            "--root or --set push.destination=..."
        )
    return version

"""A model that was pushed, for commands that use it: its SavedModel alone."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator

from components.evaluation.estimate import Estimate
from components.registry import listing
from pipeline.config import loading


@contextlib.contextmanager
def fetched(
    destination: str, number: int | None, say: Callable[[str], None]
) -> Iterator[tuple[listing.Version, str]]:
    """Gives a version and the folder of a verified copy, which the block may use.

    Args:
      destination: the folder of versions, or its URI.
      number: of the version; None for the one that is served.
      say: is told of newer versions that are damaged.

    Raises:
      ConfigError: there is no such version.
      ValueError: nothing is served, or its files are not those that were pushed.
      StorageError: the object store does not answer.
    """
    version = _version(destination, number, say)
    with tempfile.TemporaryDirectory() as folder:
        listing.fetch_version(version, folder)
        yield version, folder


def _version(
    destination: str, number: int | None, say: Callable[[str], None]
) -> listing.Version:
    if number is not None:
        try:
            return listing.find_version(destination, number)
        except LookupError as error:
            raise loading.ConfigError(f"--version: {error}") from error
    version, damaged = listing.find_served_and_damaged(destination)
    for other in damaged:
        say(other.describe(version))
    if version is None:
        raise ValueError(
            f"nothing is served at {destination}: `run` first, or name the place by "
            "--root or --set push.destination=..."
        )
    return version


def read_estimate(version: listing.Version) -> Estimate:
    """Returns how the gate estimated a version's ELBO.

    Raises:
      ValueError: its manifest does not say, or has settings of another release.
    """
    estimate = Estimate.from_manifest(version.manifest)
    if estimate is None:
        raise ValueError(
            f"the manifest of version {version.number} must have the settings gate and "
            "model of this release: another release pushed it, or another program; "
            "name another version"
        )
    return estimate

"""The versions at the push destination that nothing refers to any more.

The newest versions stay, and the served one, and the baselines that the served one and
the last run's candidate were measured against.
"""

import pathlib

from components.registry import listing, version_numbers
from model.files import filesystems
from pipeline.runs import run_record


def find_unused(
    root: pathlib.Path, destination: str, *, keep: int
) -> tuple[list[int], list[listing.Version]]:
    """Returns the numbers to remove, and the intact versions that stay, newest first.

    Args:
      root: the root of the runs.
      destination: the folder or URI of the versions.
      keep: how many of the newest intact versions stay.

    Raises:
      StorageError: the object store does not answer.
    """
    found = list(listing.list_versions(destination))
    intact = [each for each in found if isinstance(each, listing.Version)]
    if not intact:
        return [], []
    served = intact[0]
    baseline = served.manifest.baseline
    baselines = {baseline.version if baseline else None}
    if last := run_record.last_ended(root):
        baselines.add(last.baseline_version)
    kept = [
        version
        for index, version in enumerate(intact)
        if index < keep or version.number in baselines
    ]
    unused = [version.number for version in intact if version not in kept]
    for each in found:
        # A newer one may be one that another process writes now, and one that only
        # could not be read may be intact.
        if isinstance(each, listing.DamagedVersion) and each.number < served.number:
            is_unfinished = not each.has_manifest and _is_half_pushed(
                destination, each.number
            )
            if each.is_certain or is_unfinished:
                unused.append(each.number)
    return sorted(unused), kept


def _is_half_pushed(destination: str, number: int) -> bool:
    """Returns whether a push to an object store died there.

    A local folder without a manifest is not this project's: a push renames whole ones.
    """
    is_store = filesystems.local_path(destination) is None
    return is_store and version_numbers.is_claimed(destination, number)

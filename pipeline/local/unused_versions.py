"""The versions at the push destination that `prune` removes.

The newest versions stay, among them the served one. The baselines that the served
version and the last run's candidate were compared with stay, too.
"""

import pathlib
from typing import TYPE_CHECKING

from components.registry import listing, version_numbers
from model.files import filesystems
from pipeline.runs import run_record

if TYPE_CHECKING:
    from components.registry.signatures import Verifier


def find_unused(
    root: pathlib.Path,
    destination: str,
    *,
    keep: int,
    verifier: "Verifier | None" = None,
) -> tuple[list[int], list[listing.Version]]:
    """Returns the numbers of the versions to remove, and the versions that stay.

    Args:
      root: the root of the runs.
      destination: the folder or URI of the versions.
      keep: how many of the newest intact versions stay.
      verifier: verifies the signatures, as in `listing.list_versions`.

    Returns:
      The numbers to remove, ascending, and the intact versions that stay, newest first.

    Raises:
      StorageError: the object store does not answer.
    """
    found = list(listing.list_versions(destination, verifier=verifier))
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
        # A damaged version above the served one may be a push in progress. A version
        # whose files were not compared with its manifest may be intact.
        if isinstance(each, listing.DamagedVersion) and each.number < served.number:
            is_unfinished = not each.has_manifest and _is_half_pushed(
                destination, each.number
            )
            if each.is_certain or is_unfinished:
                unused.append(each.number)
    # A push that has not published a number below the served one never does.
    unused += [
        number
        for number in listing.list_unpublished(destination)
        if number < served.number and version_numbers.is_claimed(destination, number)
    ]
    return sorted(unused), kept


def _is_half_pushed(destination: str, number: int) -> bool:
    """Returns whether a version is the rest of a failed push to an object store.

    In a local folder the answer is False: a push renames a complete folder, so this
    project made no folder without a manifest.
    """
    is_store = filesystems.local_path(destination) is None
    return is_store and version_numbers.is_claimed(destination, number)

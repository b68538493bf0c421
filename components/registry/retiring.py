"""The command's work to retire a version: the checks, and the record."""

import dataclasses
import datetime
import json

from components.registry import listing, publish, retirement, rolling_back
from components.registry.retirement import Retirement
from model.errors import PipelineError


class RetirementError(PipelineError):
    """A version cannot be retired; the message gives the reason and what to do."""

    is_bad_input = True


def retire_version(destination: str, number: int, *, why: str) -> Retirement:
    """Takes a version and its model out of service and of every later rollback.

    The served version cannot be retired: what is served changes only by a publication.

    Args:
      destination: folder or URI of the versions.
      number: the version's number.
      why: the reason, for the record.

    Returns:
      The record, which is beside the versions.

    Raises:
      NoVersionError: there is no version with this number and a manifest.
      RetirementError: the version's model is served, or it is retired already.
      StorageError: the object store does not answer.
    """
    version = listing.find_version(destination, number)
    singleprint = version.manifest.singleprint
    served = listing.find_served_version(destination)
    records = retirement.read_retirements(destination)
    if old := next((r for r in records if r.version == number), None):
        raise RetirementError(f"{old.describe()}: nothing is left to do")
    record = Retirement(
        version=number,
        by=rolling_back.describe_user(),
        why=why,
        at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        digest=version.digest,
        singleprint=singleprint,
    )
    if served is not None and retirement.find_retirement(
        [record],
        served.number,
        digest=served.digest,
        singleprint=served.manifest.singleprint,
    ):
        same = "" if served.number == number else f", as version {served.number}"
        raise RetirementError(
            f"version {number} is served{same}: roll back first, by `vae-pipeline "
            "rollback --reason WHY`, then retire it"
        )
    text = json.dumps(dataclasses.asdict(record), indent=2) + "\n"
    publish.write_beside_versions(
        destination, retirement.record_name(number), text=text
    )
    return record

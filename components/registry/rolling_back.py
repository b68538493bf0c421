"""Rollback to an older version, and the record of the model that it rejects.

A server loads the highest number: the older version's files are therefore published
again under a new one. The rejected model is recorded beside the versions, in
`.rejected-<number>.json`, where pruning leaves it: the same model is never pushed there
again.
"""

import dataclasses
import datetime
import getpass
import json
import os
import socket
import tempfile

from components.registry import listing, publish
from components.registry.listing import DamagedVersion, Version
from components.registry.manifest import RolledBack
from model.errors import PipelineError
from model.files import filesystems

_REJECTED = ".rejected-"


class RollbackError(PipelineError):
    """A rollback is not possible; the message says why, and what to do."""

    is_bad_input = True


class RejectionError(PipelineError):
    """The record of a rejected model is not one that a rollback wrote."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RejectedModel:
    """A model that was rolled back from: it is never pushed again."""

    version: int  # under which it was served
    to: int  # the version that was served again
    by: str  # user@host
    why: str
    at: str  # ISO 8601, UTC
    digest: str  # of its files
    singleprint: str | None  # TensorFlow's, which another export of it shares

    def has_identity(self, digest: str, singleprint: str | None) -> bool:
        """Returns whether it is the model of these identities."""
        same = singleprint is not None and singleprint == self.singleprint
        return same or digest == self.digest

    def describe(self) -> str:
        """Returns a clause: who rejected it, when and why."""
        return (
            f"version {self.version} was rolled back from by {self.by} at {self.at} "
            f"({self.why})"
        )


def read_rejected_models(destination: str) -> list[RejectedModel]:
    """Returns the models that were rolled back from, the oldest version first.

    Raises:
      StorageError: the object store does not answer.
      RejectionError: a record is not one that `roll_back` wrote.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        try:
            found = files.ls(path, detail=False)
        except FileNotFoundError:
            return []
        names = [name for name in found if os.path.basename(name).startswith(_REJECTED)]
        texts = {name: files.cat_file(name) for name in names}
    records = []
    for name, text in texts.items():
        try:
            records.append(RejectedModel(**json.loads(text)))
        except (ValueError, TypeError) as error:
            raise RejectionError(
                f"{name} must be the JSON that `rollback` wrote ({error}): restore it, "
                "or remove it if that model may be pushed again"
            ) from error
    return sorted(records, key=lambda record: record.version)


def find_rejection(
    destination: str, digest: str, *, singleprint: str | None
) -> RejectedModel | None:
    """Returns the record that rejects a model; None if none does."""
    records = read_rejected_models(destination)
    return next((r for r in records if r.has_identity(digest, singleprint)), None)


def roll_back(destination: str, to: int | None, *, why: str) -> Version:
    """Makes an older version the served one, and returns it under its new number.

    Args:
      destination: the folder of versions, or its URI.
      to: the older version; None for the newest intact one before the served version
        that holds another model and was not rolled back from.
      why: goes into the manifest and the record.

    Raises:
      RollbackError: there is no version to roll back from or to.
      OSError: the push failed; the message says what is recorded already.
      StorageError: the object store does not answer, or did not take it.
    """
    found = list(listing.list_versions(destination))
    current = listing.find_served_version(destination)
    if current is None:
        raise RollbackError(f"nothing intact is served at {destination}: `run` first")
    records = read_rejected_models(destination)
    target = (
        _find_number(found, to)
        if to is not None
        else _find_newest_before(current, found, records=records)
    )
    if record := _find_record(target, records):
        raise RollbackError(
            f"{record.describe()}, and is never served again: choose another version, "
            f"or remove {_REJECTED}{record.version}.json beside the versions if that "
            "was a mistake"
        )
    at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    by, replaced, record = _user_and_host(), current.number, None
    if _is_same_model(target, current):
        # Of use only below a damaged version, which a server may try to load.
        replaced = found[0].number
        if found[0] == current:
            raise RollbackError(
                f"version {target.number} is what is served"
                + ("" if target == current else f", as version {current.number}")
                + ": choose another one"
            )
    else:
        record = RejectedModel(
            version=current.number,
            to=target.number,
            by=by,
            why=why,
            at=at,
            digest=current.digest,
            singleprint=current.manifest.singleprint,
        )
    manifest = target.manifest.with_rollback(
        RolledBack(replaced=replaced, to=target.number, by=by, why=why, at=at)
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            listing.fetch_version(target, folder)
        except listing.VersionError as error:  # it was intact a moment ago
            raise RollbackError(str(error)) from error
        newest = listing.read_newest_manifest(destination)[0][-1]
        if newest != found[0].number:
            raise RollbackError(
                f"version {newest} came meanwhile: look at it with `versions`, and "
                "then give the same command again, or not"
            )
        if record is None:
            return publish.publish_version(
                folder, destination=destination, manifest=manifest
            )
        # Before the push: after a kill between the two, the same command continues.
        # In the other order the rejected model could be pushed again.
        name = f"{_REJECTED}{record.version}.json"
        text = json.dumps(dataclasses.asdict(record), indent=2) + "\n"
        publish.write_beside_versions(destination, name, text=text)
        try:
            return publish.publish_version(
                folder, destination=destination, manifest=manifest
            )
        except (filesystems.StorageError, OSError) as error:
            raise OSError(
                f"version {record.version} is still what is served, and is noted as "
                f"rolled back from: mend what follows and give the same command again, "
                f"or remove {name} beside the versions: {error}"
            ) from error


def describe_origin(version: Version) -> str:
    """Returns which version it repeats, in words; empty if a run pushed it."""
    record = version.manifest.rolled_back
    if record is None:
        return ""
    return (
        f"is version {record.to} again, in place of {record.replaced}: by "
        f"{record.by} at {record.at} ({record.why})"
    )


def _find_newest_before(
    current: Version,
    found: list[Version | DamagedVersion],
    *,
    records: list[RejectedModel],
) -> Version:
    for version in found:
        if (
            isinstance(version, Version)
            and version.number < current.number
            and not _is_same_model(version, current)
            and not _find_record(version, records)
        ):
            return version
    raise RollbackError(
        f"there is no intact version older than {current.number}, of another model and "
        "not rolled back from: train one"
    )


def _find_number(found: list[Version | DamagedVersion], number: int) -> Version:
    for version in found:
        if version.number != number:
            continue
        if isinstance(version, DamagedVersion):
            raise RollbackError(
                f"version {number} is damaged: {version.why}; choose another one"
            )
        return version
    numbers = ", ".join(str(version.number) for version in reversed(found))
    raise RollbackError(f"the version must be one of {numbers}, got {number}")


def _is_same_model(one: Version, other: Version) -> bool:
    prints = {version.manifest.singleprint for version in (one, other)}
    return one.digest == other.digest or (len(prints) == 1 and None not in prints)


def _find_record(
    version: Version, records: list[RejectedModel]
) -> RejectedModel | None:
    singleprint = version.manifest.singleprint
    return next(
        (r for r in records if r.has_identity(version.digest, singleprint)), None
    )


def _user_and_host() -> str:
    """Returns user@host of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"

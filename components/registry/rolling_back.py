"""The rollback to an older version, and the records of rejected models.

A server loads the highest number, so a rollback publishes the older version's files
again under a new number. The model that was served before is rejected: a record in the
folder of the versions, `.rejected-<number>.json`, prevents that it is pushed there
again. Pruning does not remove these records.

The record and the publication must not be separated by a kill. So the rollback first
writes `.rejecting-<new number>.json`, which counts only if the version with the new
number was published, and replaces it by the record after the publication.
"""

import contextlib
import dataclasses
import datetime
import functools
import getpass
import json
import os
import socket
import tempfile
from collections.abc import Callable

import pydantic

from components.registry import listing, publish
from components.registry.listing import DamagedVersion, NoVersionError, Version
from components.registry.manifest import ManifestError, RolledBack
from components.registry.retirement import (
    Retirement,
    find_retirement,
    read_retirements,
)
from components.registry.signing import SigningSettings
from model.errors import PipelineError
from model.files import filesystems, regular_files, safe_paths

_REJECTED = ".rejected-"
_REJECTING = ".rejecting-"


class RollbackError(PipelineError):
    """A rollback is not possible; the message gives the reason and what to do."""

    is_bad_input = True


class RejectionError(PipelineError):
    """The record of a rejected model is damaged."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RejectedModel:
    """The record of a rejected model, which a rollback replaced by an older version."""

    version: int  # the version of the rejected model
    to: int  # the older version that was served again
    by: str  # user@host
    why: str
    at: str  # ISO 8601, UTC
    digest: str  # SHA-256 over the rejected model's files
    singleprint: str | None  # TensorFlow's identity, the same for each export

    def has_identity(self, digest: str, singleprint: str | None) -> bool:
        """Returns whether the rejected model has this digest or this singleprint."""
        same = singleprint is not None and singleprint == self.singleprint
        return same or digest == self.digest

    def describe(self) -> str:
        """Returns a clause for messages: who rejected the model, when and why."""
        return (
            f"version {self.version} was rolled back from by {self.by} at {self.at} "
            f"({self.why})"
        )


_RECORD = pydantic.TypeAdapter(RejectedModel)


def read_rejected_models(destination: str) -> list[RejectedModel]:
    """Returns the records of all rejected models, in ascending order of the versions.

    Args:
      destination: folder or URI of the versions.

    Raises:
      StorageError: the object store does not answer.
      RejectionError: a record is damaged.
    """
    records = {r.version: r for r in _read_records(destination, _REJECTED).values()}
    for name, record in _read_records(destination, _REJECTING).items():
        if record.version not in records and _was_published(
            destination, name, record=record
        ):
            records[record.version] = record
    return [records[version] for version in sorted(records)]


def complete_records(destination: str) -> None:
    """Completes the records of killed rollbacks, before versions are removed.

    A record that counts only because of a version must not be lost with the version.

    Args:
      destination: folder or URI of the versions.

    Raises:
      StorageError: the object store does not answer.
      RejectionError: a record is damaged.
    """
    final = {r.version for r in _read_records(destination, _REJECTED).values()}
    for name, record in _read_records(destination, _REJECTING).items():
        if (
            _was_published(destination, name, record=record)
            and record.version not in final
        ):
            _write_record(destination, record)


def _read_records(destination: str, prefix: str) -> dict[str, RejectedModel]:
    """Returns the records in the files with a prefix, by the files' names."""
    with filesystems.open_filesystem(destination) as (files, path):
        try:
            found = files.ls(path, detail=False)
        except FileNotFoundError:
            return {}
        names = [name for name in found if os.path.basename(name).startswith(prefix)]
        texts = {}
        for name in names:
            try:
                texts[name] = regular_files.read_stored(files, name)
            except (regular_files.IrregularFileError, IsADirectoryError) as error:
                raise RejectionError(
                    f"the record of a rollback can't be read: {error}"
                ) from error
    records = {}
    for name, text in texts.items():
        try:
            record = _RECORD.validate_json(text, strict=True)
            records[os.path.basename(name)] = record
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "the text"
            raise RejectionError(
                f"{name} must be the JSON that `rollback` wrote ({key}: "
                f"{first['msg']}): restore it, or remove it if that model may be "
                "pushed again"
            ) from error
    return records


def _was_published(destination: str, name: str, *, record: RejectedModel) -> bool:
    """Returns whether the rollback of a file `.rejecting-<number>.json` succeeded."""
    number = name.removeprefix(_REJECTING).removesuffix(".json")
    if not number.isdecimal():
        return False
    try:
        version = listing.find_version(destination, int(number))
    except (NoVersionError, ManifestError, safe_paths.PathError):
        return False
    made = version.manifest.rolled_back
    return made is not None and (made.replaced, made.at) == (record.version, record.at)


def _write_record(destination: str, record: RejectedModel) -> None:
    name = f"{_REJECTED}{record.version}.json"
    publish.write_beside_versions(destination, name, text=_to_json(record))


def _to_json(record: RejectedModel) -> str:
    return json.dumps(dataclasses.asdict(record), indent=2) + "\n"


def find_rejection(
    destination: str, digest: str, *, singleprint: str | None
) -> RejectedModel | Retirement | None:
    """Returns the record of a model's rejection or retirement; None without one.

    Args:
      destination: folder or URI of the versions.
      digest: SHA-256 over the model's files.
      singleprint: TensorFlow's identity of the model; None if it is not known.
    """
    records = read_rejected_models(destination)
    rejected = (r for r in records if r.has_identity(digest, singleprint))
    return next(rejected, None) or find_retirement(
        read_retirements(destination), None, digest=digest, singleprint=singleprint
    )


def roll_back(
    destination: str,
    to: int | None,
    *,
    why: str,
    single_writer: bool = False,
    signing: SigningSettings | None = None,
) -> Version:
    """Publishes an older version again under a new number, and rejects the served one.

    Args:
      destination: folder or URI of the versions.
      to: number of the older version; None for the newest intact version that is older
        than the served one, holds another model and is not rejected.
      why: the reason, for the manifest and the record.
      single_writer: whether nobody else pushes to an object store without conditional
        writes.
      signing: the keys that sign the new version and verify the others; None: none.

    Returns:
      The older version under its new number, which is then the served version.

    Raises:
      RollbackError: there is no version to roll back from or to, or another version
        was pushed during the rollback.
      OSError: the older version was published, but its record could not be completed.
      NoSigningKeyError: push.verify is set, and the private key is missing.
      SigningKeyError: a key is of the wrong kind.
      SecretError: a key can't be read.
      StorageError: the object store does not answer, or the upload failed.
    """
    signing = signing or SigningSettings()
    signer = signing.load_signer(destination)
    verifier = signing.load_verifier(destination)
    found = list(listing.list_versions(destination, verifier=verifier))
    current = listing.find_served_version(destination, verifier=verifier)
    if current is None:
        raise RollbackError(f"there is no intact version at {destination}: `run` first")
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
    by, replaced, record = describe_user(), current.number, None
    if _is_same_model(target, current):
        # This is useful only if a newer version is damaged: a server may try to load
        # that one.
        replaced = found[0].number
        if found[0] == current:
            raise RollbackError(
                f"version {target.number} is already served"
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
        except listing.VersionError as error:  # it has changed since the check above
            raise RollbackError(str(error)) from error
        push = functools.partial(
            publish.publish_version,
            folder,
            destination=destination,
            manifest=manifest,
            replaces=current.number,
            rules=publish.PushRules(
                single_writer=single_writer, signer=signer, verifier=verifier
            ),
        )
        return _publish(
            push, destination=destination, replaces=current.number, record=record
        )


def _publish(
    push: Callable[..., Version],
    *,
    destination: str,
    replaces: int,
    record: RejectedModel | None,
) -> Version:
    """Publishes the older version, and the record of the rejected model if any.

    Args:
      push: calls `publish.publish_version` with all arguments but `companion`.
      destination: folder or URI of the versions.
      replaces: the version that is served.
      record: the record of its model; None: it is not rejected.
    """
    text = _to_json(record) if record else ""
    try:
        version = push(
            companion=(lambda number: (f"{_REJECTING}{number}.json", text))
            if record
            else None,
        )
    except publish.OvertakenError as error:
        raise RollbackError(
            f"version {error.served} was pushed during this rollback: check it with "
            "`versions`, and repeat the command if you still want the rollback"
            if error.served
            else f"version {replaces} was removed or damaged during this rollback: "
            "check with `versions`, and repeat the command"
        ) from error
    if record is not None:
        _write_record(destination, record)
        # The store may not allow removals. Then the file stays, and counts no more.
        with contextlib.suppress(filesystems.StorageError, OSError):
            publish.remove_beside_versions(
                destination, f"{_REJECTING}{version.number}.json"
            )
    return version


def describe_origin(version: Version) -> str:
    """Returns a clause about the rollback that pushed a version.

    The clause has the repeated and the replaced version, user, time and reason. It is
    empty for a version that a run pushed.
    """
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
    """Returns the newest intact older version of another model that is not rejected.

    Args:
      current: the served version.
      found: all versions, in descending order of their numbers.
      records: the records of rejected models.

    Raises:
      RollbackError: there is no such version.
    """
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
    """Returns the intact version with a number; raises RollbackError without one."""
    for version in found:
        if version.number != number:
            continue
        if isinstance(version, DamagedVersion) and version.is_retired:
            raise RollbackError(f"{version.why}; choose another one")
        if isinstance(version, DamagedVersion):
            raise RollbackError(
                f"version {number} is damaged: {version.why}; choose another one"
            )
        return version
    numbers = ", ".join(str(version.number) for version in reversed(found))
    raise RollbackError(f"the version must be one of {numbers}, got {number}")


def _is_same_model(one: Version, other: Version) -> bool:
    """Returns whether two versions have the same files or the same singleprint."""
    prints = {version.manifest.singleprint for version in (one, other)}
    return one.digest == other.digest or (len(prints) == 1 and None not in prints)


def _find_record(
    version: Version, records: list[RejectedModel]
) -> RejectedModel | None:
    """Returns the record that rejects a version's model; None if there is none."""
    singleprint = version.manifest.singleprint
    return next(
        (r for r in records if r.has_identity(version.digest, singleprint)), None
    )


def describe_user() -> str:
    """Returns `user@host` of this process, with the user's number if it has no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"

"""Goes back to an older version, and remembers which model was gone back from.

A server loads the highest number: so the older version's files are pushed again, under
a new one, which readers see as they see any push. The model that was gone back from is
noted beside the versions, in `.rejected-<number>.json`, where pruning leaves it: the
same model is never pushed there again.
"""

import dataclasses
import datetime
import getpass
import json
import os
import socket
import tempfile
from typing import Any

from components.registry import listing, publish
from components.registry.listing import Damaged, Version
from model.files import filesystems

_REJECTED = ".rejected-"
_KEY = "rolled_back"  # in a manifest


class RollbackError(ValueError):
    """There is no going back to that version; the message says why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Rejected:
    """A model that was gone back from: never to be pushed again."""

    version: int  # what it was served as
    to: int  # the version that was gone back to
    by: str  # user@host
    why: str
    at: str  # ISO 8601, UTC
    digest: str  # of its files
    singleprint: str | None  # TensorFlow's, which another export of it shares

    def is_of(self, digest: str, singleprint: str | None) -> bool:
        """Whether it is the model of these."""
        same = singleprint is not None and singleprint == self.singleprint
        return same or digest == self.digest

    def told(self) -> str:
        """Returns when and why, in words."""
        return (
            f"version {self.version} was rolled back from by {self.by} at {self.at} "
            f"({self.why})"
        )


def rejected(destination: str) -> list[Rejected]:
    """Returns the models that were gone back from, the oldest version first.

    Raises:
      StorageError: the object store does not answer.
      ValueError: a record is not one that `roll_back` wrote.
    """
    with filesystems.opened(destination) as (files, path):
        try:
            found = files.ls(path, detail=False)
        except FileNotFoundError:
            return []
        names = [name for name in found if os.path.basename(name).startswith(_REJECTED)]
        texts = {name: files.cat_file(name) for name in names}
    records = []
    for name, text in texts.items():
        try:
            records.append(Rejected(**json.loads(text)))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{name} must be the JSON that `rollback` wrote ({error}): restore it, "
                "or remove it if that model may be pushed again"
            ) from error
    return sorted(records, key=lambda record: record.version)


def rejection(
    destination: str, digest: str, singleprint: str | None
) -> Rejected | None:
    """Returns what says that a model was gone back from, or None."""
    records = (r for r in rejected(destination) if r.is_of(digest, singleprint))
    return next(records, None)


def roll_back(destination: str, to: int | None, why: str) -> Version:
    """Makes an older version the served one, and returns it under its new number.

    Args:
      destination: the folder of versions, or its URI.
      to: the older version; None for the newest intact one before what is served that
        holds another model and was not gone back from itself.
      why: goes into the manifest and the record.

    Raises:
      RollbackError: there is nothing to go back from or to.
      OSError: the push failed; the message says what is noted already.
      StorageError: the object store does not answer, or did not take it.
    """
    found = list(listing.look(destination))
    current = listing.served(destination)
    if current is None:
        raise RollbackError(f"nothing intact is served at {destination}: `run` first")
    records = rejected(destination)
    target = (
        _named(found, to) if to is not None else _newest_before(current, found, records)
    )
    if record := _rejection(target, records):
        raise RollbackError(
            f"{record.told()}, and is never served again: choose another version, or "
            f"remove {_REJECTED}{record.version}.json beside the versions if that was "
            "a mistake"
        )
    at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    details: dict[str, Any] = {"to": target.number, "by": _who(), "why": why, "at": at}
    replaced, record = current.number, None
    if _same(target, current):
        # Of use only below a damaged version, which a server may try to load.
        replaced = found[0].number
        if found[0] == current:
            raise RollbackError(
                f"version {target.number} is what is served"
                + ("" if target == current else f", as version {current.number}")
                + ": choose another one"
            )
    else:
        record = Rejected(
            version=current.number,
            digest=current.digest,
            singleprint=current.manifest.get("singleprint"),
            **details,
        )
    manifest = {
        key: value
        for key, value in target.manifest.items()
        if key not in ("digest", "files", _KEY)
    }
    manifest[_KEY] = {"from": replaced, **details}
    with tempfile.TemporaryDirectory() as folder:
        try:
            listing.fetch(target, folder)
        except filesystems.StorageError:
            raise
        except ValueError as error:  # it was intact a moment ago
            raise RollbackError(str(error)) from error
        newest = listing.glance(destination)[0][-1]
        if newest != found[0].number:
            raise RollbackError(
                f"version {newest} came meanwhile: look at it with `versions`, and "
                "then give the same command again, or not"
            )
        if record is None:
            return listing.push(folder, destination, manifest)
        # Before the push: killed between the two, the same command goes on where it
        # stopped. The other way round the model could be pushed again.
        name = f"{_REJECTED}{record.version}.json"
        text = json.dumps(dataclasses.asdict(record), indent=2) + "\n"
        publish.note(destination, name, text)
        try:
            return listing.push(folder, destination, manifest)
        except (filesystems.StorageError, OSError) as error:
            raise OSError(
                f"version {record.version} is still what is served, and is noted as "
                f"rolled back from: mend what follows and give the same command again, "
                f"or remove {name} beside the versions: {error}"
            ) from error


def origin(version: Version) -> str:
    """Returns in words which version it repeats; empty if it is a run's own."""
    record = version.manifest.get(_KEY)
    if not record:
        return ""
    return (
        f"is version {record['to']} again, in place of {record['from']}: by "
        f"{record['by']} at {record['at']} ({record['why']})"
    )


def _newest_before(
    current: Version, found: list[Version | Damaged], records: list[Rejected]
) -> Version:
    for version in found:
        if (
            isinstance(version, Version)
            and version.number < current.number
            and not _same(version, current)
            and not _rejection(version, records)
        ):
            return version
    raise RollbackError(
        f"there is no intact version older than {current.number}, of another model and "
        "not rolled back from: train one"
    )


def _named(found: list[Version | Damaged], number: int) -> Version:
    for version in found:
        if version.number != number:
            continue
        if isinstance(version, Damaged):
            raise RollbackError(
                f"version {number} is damaged: {version.why}; choose another one"
            )
        return version
    numbers = ", ".join(str(version.number) for version in reversed(found))
    raise RollbackError(f"the version must be one of {numbers}, got {number}")


def _same(one: Version, other: Version) -> bool:
    prints = {version.manifest.get("singleprint") for version in (one, other)}
    return one.digest == other.digest or (len(prints) == 1 and None not in prints)


def _rejection(version: Version, records: list[Rejected]) -> Rejected | None:
    singleprint = version.manifest.get("singleprint")
    return next((r for r in records if r.is_of(version.digest, singleprint)), None)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"

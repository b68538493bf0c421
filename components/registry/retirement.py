"""The records of retired versions, which nobody serves any more.

A record in the folder of the versions, `.retired-<number>.json`, takes a version out of
service: no reader serves it, no run measures against it, no rollback publishes it, and
no push publishes its model again. The files of the version stay. Removing the record
brings the version back. Pruning does not remove these records.
"""

import dataclasses
import os
from collections.abc import Sequence

import pydantic

from model.files import filesystems, regular_files

_RETIRED, _END = ".retired-", ".json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retirement:
    """The record of a retired version.

    The facts are empty if the record is damaged: the version is retired all the same,
    because its number is in the name of the record.
    """

    version: int
    by: str = ""  # user@host
    why: str = ""
    at: str = ""  # ISO 8601, UTC
    digest: str = ""  # SHA-256 over the files of the version
    singleprint: str | None = None  # TensorFlow's identity, the same for each export

    def describe(self) -> str:
        """Returns a clause for messages: who retired the version, when and why."""
        if not self.by:
            return (
                f"version {self.version} was retired, and {record_name(self.version)} "
                "beside the versions is damaged"
            )
        return (
            f"version {self.version} was retired by {self.by} at {self.at} ({self.why})"
        )


_RECORD = pydantic.TypeAdapter(Retirement)


def record_name(number: int) -> str:
    """Returns the name of the file that retires the version with this number."""
    return f"{_RETIRED}{number}{_END}"


def read_retirements(destination: str) -> list[Retirement]:
    """Returns the records of all retired versions, in ascending order of the numbers.

    Args:
      destination: folder or URI of the versions.

    Raises:
      StorageError: the object store does not answer.
    """
    with filesystems.open_filesystem(destination) as (files, path):
        try:
            found = files.ls(path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        records = []
        for name in found:
            number = _parse_name(os.path.basename(name.rstrip("/")))
            if number is None:
                continue
            record = Retirement(version=number)
            try:
                text = regular_files.read_stored(files, name)
                read = _RECORD.validate_json(text, strict=True)
                record = read if read.version == number else record
            except (ValueError, regular_files.IrregularFileError, OSError):
                pass  # the version must stay retired, although the facts are lost
            records.append(record)
    return sorted(records, key=lambda record: record.version)


def find_retirement(
    records: Sequence[Retirement],
    number: int | None,
    *,
    digest: str,
    singleprint: str | None,
) -> Retirement | None:
    """Returns the record that retires a version or its model; None without one.

    Args:
      records: the records of all retired versions.
      number: the version's number; None: the model has no number yet.
      digest: SHA-256 over the model's files.
      singleprint: TensorFlow's identity of the model; None if it is not known.
    """
    for record in records:
        is_same = singleprint is not None and singleprint == record.singleprint
        if record.version == number or record.digest == digest or is_same:
            return record
    return None


def _parse_name(name: str) -> int | None:
    """Returns the version's number in the name of a record; None for other names."""
    digits = name.removeprefix(_RETIRED).removesuffix(_END)
    is_number = digits.isascii() and digits.isdecimal() and len(digits) < 20
    if is_number and name == record_name(int(digits)):
        return int(digits)
    return None

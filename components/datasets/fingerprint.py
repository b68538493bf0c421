"""PREPARED.json, the record of a prepared data set's file digests and fingerprint."""

import hashlib
import json
import pathlib

from components.datasets.idx import DataError
from model.files import regular_files
from model.files.digests import digest_file
from model.training.progress import log_if_slow

RECORD_NAME = "PREPARED.json"
INFO_NAME = "dataset_info.json"


class DamagedError(DataError):
    """A file of a prepared data set is missing, or changed after the preparation."""


ADVICE = (
    "delete that folder, or prepare the data set again with a source other than auto"
)


def write_record(path: pathlib.Path, contents: dict[str, str]) -> None:
    """Writes PREPARED.json with the digests of a data set's files and its fingerprint.

    Args:
      path: folder of the prepared data set's version.
      contents: the SHA-256 digests, by name, from which the fingerprint is computed.
    """
    record = {
        "fingerprint": compute_fingerprint(contents),
        "files": compute_digests(path),
    }
    (path / RECORD_NAME).write_text(
        json.dumps(record, indent=2) + "\n", encoding="utf-8"
    )


def read_verified_fingerprint(path: pathlib.Path) -> str:
    """Returns a prepared data set's fingerprint after a check of its files.

    The fingerprint is the one in PREPARED.json. A data set without that file, which
    another program prepared, gets a fingerprint of its shards.

    Args:
      path: folder of the prepared data set's version.

    Raises:
      DamagedError: a file does not have the digest in PREPARED.json.
    """
    with log_if_slow(f"verifying the data set in {path}"):
        digests = compute_digests(path)
    record_path = path / RECORD_NAME
    if not record_path.is_file():
        return compute_fingerprint(digests)
    try:
        record = json.loads(regular_files.read_text(record_path))
        fingerprint, files = record["fingerprint"], record["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{record_path} is damaged ({error}); {ADVICE}") from error
    for name, expected in files.items():
        if digests.get(name) != expected:
            raise DamagedError(
                f"{path / name} has the SHA-256 {digests.get(name)}, expected "
                f"{expected} as when it was prepared; {ADVICE}"
            )
    return fingerprint


def compute_digests(path: pathlib.Path) -> dict[str, str]:
    """Returns the SHA-256 of each file in a folder by name, without PREPARED.json."""
    files = sorted(file for file in path.iterdir() if file.name != RECORD_NAME)
    return {file.name: digest_file(file) for file in files if file.is_file()}


def compute_fingerprint(digests: dict[str, str]) -> str:
    """Returns one SHA-256 over the names and digests, without dataset_info.json."""
    # dataset_info.json may contain the time of the preparation and the TFDS version.
    lines = [f"{digest}  {name}\n" for name, digest in digests.items()]
    kept = sorted(line for line in lines if INFO_NAME not in line)
    return hashlib.sha256("".join(kept).encode()).hexdigest()

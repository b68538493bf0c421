"""The record beside a prepared dataset's shards: their digests and fingerprint."""

import hashlib
import json
import pathlib

from components.datasets.idx import DataError
from model.files.digests import digest_file
from model.training.progress import log_if_slow

RECORD_NAME = "PREPARED.json"
INFO_NAME = "dataset_info.json"


class DamagedError(DataError):
    """A prepared dataset is not what it was when it was prepared."""


ADVICE = "delete that folder, or prepare it anew by naming a source other than auto"


def write_record(path: pathlib.Path, contents: dict[str, str]) -> None:
    """Records every file's digest, and the fingerprint of the contents' digests."""
    record = {
        "fingerprint": compute_fingerprint(contents),
        "files": compute_digests(path),
    }
    (path / RECORD_NAME).write_text(
        json.dumps(record, indent=2) + "\n", encoding="utf-8"
    )


def read_verified_fingerprint(path: pathlib.Path) -> str:
    """Returns a dataset's recorded fingerprint, or for want of a record its shards'."""
    with log_if_slow(f"verifying the data set in {path}"):
        digests = compute_digests(path)
    record_path = path / RECORD_NAME
    if not record_path.is_file():
        return compute_fingerprint(digests)
    try:
        record = json.loads(record_path.read_text(encoding="utf-8"))
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
    """Returns the SHA-256 of each file in a folder but the record, by name."""
    files = sorted(file for file in path.iterdir() if file.name != RECORD_NAME)
    return {file.name: digest_file(file) for file in files if file.is_file()}


def compute_fingerprint(digests: dict[str, str]) -> str:
    """Returns one SHA-256 over names and digests, less the dataset's own info."""
    # dataset_info.json may hold when and with what it was made.
    lines = [f"{digest}  {name}\n" for name, digest in digests.items()]
    kept = sorted(line for line in lines if INFO_NAME not in line)
    return hashlib.sha256("".join(kept).encode()).hexdigest()

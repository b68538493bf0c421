"""The record of a prepared data set: file digests and the content's fingerprint."""

import hashlib
import json

import pytest

from components.datasets import fingerprint
from components.datasets.fingerprint import DamagedError

FILES = {"train.tfrecord": b"train", "test.tfrecord": b"test"}
CONTENTS = {"train_images": "1" * 64, "train_labels": "2" * 64}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def folder(tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "a_folder").mkdir()
    (tmp_path / "dataset_info.json").write_bytes(b"made today")
    return tmp_path


def test_the_fingerprint_is_the_digest_of_sorted_lines():
    lines = f"{'1' * 64}  train_images\n{'2' * 64}  train_labels\n"
    backwards = dict(reversed(CONTENTS.items()))
    assert fingerprint.compute_fingerprint(CONTENTS) == sha256(lines.encode())
    assert fingerprint.compute_fingerprint(backwards) == sha256(lines.encode())


def test_the_fingerprint_does_not_depend_on_the_time():
    info = {**CONTENTS, "dataset_info.json": "3" * 64}
    assert fingerprint.compute_fingerprint(info) == fingerprint.compute_fingerprint(
        CONTENTS
    )
    other = {**CONTENTS, "test_labels": "3" * 64}
    assert fingerprint.compute_fingerprint(other) != fingerprint.compute_fingerprint(
        CONTENTS
    )


def test_every_file_but_the_record_has_a_digest(folder):
    (folder / "PREPARED.json").write_text("{}")
    expected = {name: sha256(data) for name, data in FILES.items()}
    expected["dataset_info.json"] = sha256(b"made today")
    assert fingerprint.compute_digests(folder) == expected


def test_what_was_written_is_checked(folder):
    fingerprint.write_record(folder, CONTENTS)
    record = json.loads((folder / "PREPARED.json").read_text())
    assert record == {
        "fingerprint": fingerprint.compute_fingerprint(CONTENTS),
        "files": fingerprint.compute_digests(folder),
    }
    assert fingerprint.read_verified_fingerprint(folder) == record["fingerprint"]


def test_without_a_record_the_fingerprint_is_of_the_shards(folder):
    expected = fingerprint.compute_fingerprint({n: sha256(d) for n, d in FILES.items()})
    assert fingerprint.read_verified_fingerprint(folder) == expected


@pytest.mark.parametrize("data", [b"other", None])
def test_a_file_that_changed_is_named(folder, data):
    fingerprint.write_record(folder, CONTENTS)
    path = folder / "train.tfrecord"
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DamagedError) as error:
        fingerprint.read_verified_fingerprint(folder)
    assert str(error.value) == (
        f"{path} has the SHA-256 {sha256(data) if data else None}, expected "
        f"{sha256(b'train')} as when it was prepared; delete that folder, or prepare "
        "the data set again with a source other than auto"
    )


def test_a_file_that_was_added_does_not_matter(folder):
    fingerprint.write_record(folder, CONTENTS)
    (folder / "notes.txt").write_text("of somebody")
    expected = fingerprint.compute_fingerprint(CONTENTS)
    assert fingerprint.read_verified_fingerprint(folder) == expected


@pytest.mark.parametrize("text", ["{", "[]", '{"fingerprint": "f"}', '{"files": {}}'])
def test_a_damaged_record_is_named(folder, text):
    (folder / "PREPARED.json").write_text(text)
    with pytest.raises(DamagedError, match=r"/PREPARED\.json is damaged \("):
        fingerprint.read_verified_fingerprint(folder)

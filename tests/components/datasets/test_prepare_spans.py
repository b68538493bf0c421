"""The preparation of spans: a TFDS data set for each content."""

import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from components.datasets import prepare_spans, span_files
from components.datasets.idx import DataAccessError, DataError
from model.files import filesystems
from tests.support.s3 import SECRET
from tests.support.span_folders import bars, write_idx, write_records


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    return folder


def prepare(pattern, tmp_path, window=1, print_line=prepare_spans.print_nothing):
    return prepare_spans.prepare_data(
        "bars",
        str(pattern),
        window=window,
        data_dir=tmp_path / "d",
        print_line=print_line,
    )


def read_back(part, split):
    rows = list(
        tfds.builder_from_directory(part.path)
        .as_dataset(split=split)
        .as_numpy_iterator()
    )
    return sorted((row["image"].tobytes(), int(row["label"])) for row in rows)


def pairs(arrays, split):
    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels))


@pytest.mark.parametrize("kind", ["idx", "tfrecord", "tfrecord.gz"])
def test_each_span_becomes_a_tfds_dataset(folder, tmp_path, kind):
    for number in (6, 7):
        place = folder / f"span-{number}"
        if kind == "idx":
            write_idx(place, bars(number, 40, 20))
        else:
            write_records(place, bars(number, 40, 20), suffix=kind[len("tfrecord") :])
    data = prepare(folder / "span-{SPAN}", tmp_path, window=2)
    assert [span.number for span in data.spans] == [6, 7]
    assert data.fingerprint == ",".join(
        f"{span.number}:{span.fingerprint}" for span in data.spans
    )
    assert str(data).startswith("120 images of spans 6, 7 of bars at ")
    for number, part in zip((6, 7), data.parts):
        for split in ("train", "test"):
            assert read_back(part, split) == pairs(bars(number, 40, 20), split)
    loaded = prepare_spans.load_spans("bars", data.spans, data_dir=tmp_path / "d")
    assert prepare_spans.combine_spans(loaded) == data
    home = pathlib.Path(data.parts[0].path).parents[1]
    assert len(tfds.load("bars", data_dir=home, split="train", download=False)) == 40


def test_the_same_content_is_prepared_once(folder, tmp_path):
    write_idx(folder / "span-1", bars(1, 40, 20))
    write_records(folder / "span-2", bars(1, 40, 20))
    printed = []
    first = prepare(folder / "span-{SPAN}", tmp_path, 2, printed.append)
    assert sum("writing" in line for line in printed) == 1
    assert first.parts[0] == first.parts[1]
    written = os.stat(first.parts[0].path).st_mtime_ns
    again = prepare(folder / "span-{SPAN}", tmp_path, 2)
    assert again == first
    assert os.stat(again.parts[0].path).st_mtime_ns == written
    assert not list((tmp_path / "d" / "spans").glob(".preparing-*"))


def test_other_content_is_another_fingerprint(folder, tmp_path):
    write_idx(folder / "span-1", bars(1, 40, 20))
    before = prepare(folder / "span-{SPAN}", tmp_path)
    write_idx(folder / "span-1", bars(2, 40, 20))
    assert prepare(folder / "span-{SPAN}", tmp_path).fingerprint != before.fingerprint


def test_damaged_data_are_prepared_again(folder, tmp_path):
    write_idx(folder / "span-1", bars(1, 40, 20))
    data = prepare(folder / "span-{SPAN}", tmp_path)
    (shard, *_) = pathlib.Path(data.parts[0].path).glob("*train*")
    shard.write_bytes(b"")
    with pytest.raises(DataError) as error:
        prepare_spans.load_spans("bars", data.spans, data_dir=tmp_path / "d")
    assert str(error.value) == (
        f"span 1, prepared in {pathlib.Path(data.parts[0].path).parents[1]}, was "
        "removed or changed after the run began; run again"
    )
    assert prepare(folder / "span-{SPAN}", tmp_path) == data
    assert read_back(data.parts[0], "train") == pairs(bars(1, 40, 20), "train")


def test_what_a_killed_process_left_is_removed(folder, tmp_path):
    write_idx(folder / "span-1", bars(1, 40, 20))
    left = tmp_path / "d" / "spans" / ".preparing-x"
    left.mkdir(parents=True)
    prepare(folder / "span-{SPAN}", tmp_path)
    assert not left.exists()


def test_a_bad_name_is_named(folder, tmp_path):
    with pytest.raises(DataError, match="must have a name of lower-case letters"):
        prepare_spans.prepare_newest_spans(
            "emnist/digits", f"{folder}/{{SPAN}}", window=1, data_dir=tmp_path
        )


def test_a_data_folder_that_cannot_be_made_is_named(folder, tmp_path):
    (tmp_path / "d").write_text("a file")
    with pytest.raises(DataError, match="make it usable or choose another data folder"):
        prepare(folder / "span-{SPAN}", tmp_path)


# Files of the prepared data sets.


def test_labels_that_are_too_high_are_named(folder, tmp_path):
    arrays = bars(0, 10, 10)
    arrays["train_labels"] = np.full(10, 12, np.uint8)
    write_idx(folder / "span-1", arrays)
    with pytest.raises(DataError, match="train labels go up to 12, expected 0 to 9"):
        prepare(folder / "span-{SPAN}", tmp_path)


# Spans in an object store.


@pytest.mark.parametrize("scheme", ["s3", "minio"])
def test_spans_come_from_an_object_store(s3, folder, tmp_path, scheme):
    for number in (6, 7):
        write_idx(folder / f"span-{number:03}", bars(number, 40, 20))
    s3.files.put(str(folder), f"{s3.name}/digits", recursive=True)
    s3.files.pipe_file(f"{s3.name}/digits/span-008", b"an object, no span")
    s3.files.pipe_file(f"{s3.name}/digits/span-x/file", b"")
    printed = []
    pattern = f"{scheme}://{s3.name}/digits/span-{{SPAN}}"
    data = prepare(pattern, tmp_path, 2, printed.append)
    assert printed[0].endswith("digits/span-x is skipped: 'x' is no span's number")
    assert [span.number for span in data.spans] == [6, 7]
    shutil.rmtree(tmp_path / "d")
    # the content is the same
    assert prepare(folder / "span-{SPAN}", tmp_path, 2) == data


def test_an_object_store_without_a_match_is_named(s3, tmp_path):
    s3.files.pipe_file(f"{s3.name}/digits/span-x/file", b"")
    pattern = f"s3://{s3.name}/digits/span-{{SPAN}}"
    with pytest.raises(DataError) as error:
        prepare(pattern, tmp_path)
    assert str(error.value) == (
        f"no span matches {pattern}: looked in s3://{s3.name}/digits for folders named "
        "span-<digits>, and found span-x; put a span there or correct --source"
    )


def test_an_object_store_that_cannot_be_read_is_named(s3, tmp_path):
    with pytest.raises(
        filesystems.StorageError, match="can't use s3://no-such"
    ) as error:
        prepare("s3://no-such-bucket/span-{SPAN}", tmp_path)
    assert SECRET not in str(error.value)


def test_too_little_memory_for_a_span_is_the_machines_fault(tmp_path, monkeypatch):
    """A test must not use up the machine's memory."""
    write_idx(tmp_path / "src" / "span-1", bars(0, 10, 10))

    def run_out(folder):
        raise MemoryError("Unable to allocate 5.8 GiB")

    monkeypatch.setattr(span_files, "read", run_out)
    with pytest.raises(DataAccessError) as error:
        prepare_spans.prepare_newest_spans(
            "bars", str(tmp_path / "src" / "span-{SPAN}"), window=1, data_dir=tmp_path
        )
    assert str(error.value) == (
        f"{tmp_path}: this machine has too little memory for the data (Unable to "
        "allocate 5.8 GiB); close other programs, or give fewer images"
    )

"""The files of a span: how they are read, and the errors about them."""

import gzip
import json
import os
import struct

import google_crc32c
import numpy as np
import pytest

from components.datasets import idx, span_files
from components.datasets.idx import DataError
from tests.support.span_folders import bars, example, write_records


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    return folder


def test_a_span_without_files_is_named(folder):
    (folder / "span-1").mkdir()
    with pytest.raises(DataError, match="span-1 lacks train-images-idx3-ubyte"):
        span_files.read(str(folder / "span-1"))


def test_records_of_one_split_alone_are_refused(folder):
    write_records(folder, bars(0, 10, 10))
    for file in folder.glob("test*"):
        file.unlink()
    with pytest.raises(DataError) as error:
        span_files.read(str(folder))
    assert str(error.value) == (
        f"{folder} has no test*tfrecord* file, expected at least one beside those of "
        "the other split; put it there"
    )


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_shard_that_is_not_there_is_named(tmp_path, suffix, lost):
    """The span is still being uploaded, or has lost a file."""
    write_records(tmp_path, bars(0, 30, 30), files=3, suffix=suffix)
    name = f"train-{lost:05}-of-00003.tfrecord{suffix}"
    (tmp_path / name).unlink()
    with pytest.raises(DataError) as error:
        span_files.read(str(tmp_path))
    assert str(error.value) == (
        f"{tmp_path} lacks {name}, expected all 3 shards: the span is not complete; "
        "wait until it is, or put the file there"
    )


def test_one_of_very_many_shards_is_not_all(tmp_path):
    write_records(tmp_path, bars(0, 10, 10), files=1)
    file = tmp_path / "test-00000-of-00001.tfrecord.gz"
    file.rename(tmp_path / "test-00000-of-999999999999.tfrecord.gz")
    with pytest.raises(DataError, match="lacks test-00001-of-999999999999.tfrecord.gz"):
        span_files.read(str(tmp_path))


def test_all_shards_are_read_however_they_are_numbered(tmp_path):
    """`write_records`, TFDS and Beam number their shards differently."""
    arrays = bars(0, 30, 30)
    write_records(tmp_path, arrays, files=3)
    expected = span_files.read(str(tmp_path))
    np.testing.assert_array_equal(expected["train_images"], arrays["train_images"])
    for file in tmp_path.glob("train*"):
        number = file.name[len("train-") :][: len("00000-of-00003")]
        file.rename(tmp_path / f"train.tfrecord-{number}.gz")
    read = span_files.read(str(tmp_path))
    np.testing.assert_array_equal(read["train_images"], arrays["train_images"])


@pytest.mark.parametrize("end", [".part", ".tmp", ".gz.part", "~"])
def test_an_unfinished_file_is_not_a_shard(tmp_path, end):
    write_records(tmp_path, bars(0, 10, 10), files=1, suffix="")
    half = tmp_path / f"train-00001-of-00002.tfrecord{end}"
    half.write_bytes(b"")
    with pytest.raises(DataError) as error:
        span_files.read(str(tmp_path))
    assert str(error.value) == (
        f"{half} is no file of TFRecords by its name: expected one that ends in "
        "tfrecord or tfrecord-NNNNN-of-NNNNN, with or without .gz; wait until the span "
        "is complete, or remove the file"
    )


def overwrite(folder, *records):
    import tensorflow as tf

    path = folder / "train.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"\xff", "record 1 of {} is no tf.Example; write image and label as"),
        (
            example(bytes(783), 1),
            "record 1 of {} has an image of [783] bytes, expected [784]: 28 x 28",
        ),
        (
            example(bytes(784), *range(200)),
            "record 1 of {} has 1 images and 200 labels, expected one of each; write",
        ),
        (b"", "record 1 of {} has an image of no bytes, expected [784]"),
        (example(bytes(784)), "record 1 of {} has the label [], expected one of 0 to"),
        (example(bytes(784), 256), "record 1 of {} has the label [256], expected one"),
        (example(bytes(784), -1), "record 1 of {} has the label [-1], expected one"),
    ],
)
def test_bad_records_are_named(tmp_path, record, message):
    write_records(tmp_path, bars(0, 10, 10))
    path = overwrite(tmp_path, example(bytes(784), 3), record)
    with pytest.raises(DataError) as error:
        span_files.read(str(tmp_path))
    assert message.format(path) in str(error.value)


def test_damaged_record_files_are_named(tmp_path):
    write_records(tmp_path, bars(0, 10, 10), files=1, suffix="")
    path = tmp_path / "train-00000-of-00001.tfrecord"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(DataError, match=f"{path} cannot be read after 9 records: "):
        span_files.read(str(tmp_path))
    path.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    with pytest.raises(DataError, match=f"{path} cannot be read after 1 records: "):
        span_files.read(str(tmp_path))
    path.write_bytes(b"")
    with pytest.raises(DataError) as error:
        span_files.read(str(tmp_path))
    assert str(error.value) == (
        f"{path} holds nothing, expected at least 1; get it again"
    )


def header(length):
    """Returns the beginning of a record: its length and the masked CRC-32C of it."""
    packed = struct.pack("<Q", length)
    crc = google_crc32c.value(packed)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    return packed + struct.pack("<I", masked)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_length_at_which_tensorflow_aborts_is_named(tmp_path, suffix):
    """TensorFlow's reader allocates 2^47 bytes for it, and gets a signal."""
    write_records(tmp_path, bars(0, 10, 10), files=1, suffix=suffix)
    path = tmp_path / f"train-00000-of-00001.tfrecord{suffix}"
    data = header(2**47) + bytes(4)
    assert len(data) == 16
    path.write_bytes(gzip.compress(data) if suffix else data)
    with pytest.raises(DataError) as error:
        span_files.read(str(tmp_path))
    assert str(error.value) == (
        f"{path} cannot be read after 0 records: the next one states a length of "
        "140,737,488,355,328 bytes, expected at most 1,048,576; get the file again"
    )


def test_a_record_that_is_a_bomb_is_not_decompressed(tmp_path):
    write_records(tmp_path, bars(0, 10, 10), files=1)
    path = tmp_path / "test-00000-of-00001.tfrecord.gz"
    path.write_bytes(gzip.compress(header(50_000_000) + bytes(50_000_004)))
    with pytest.raises(DataError, match="a length of 50,000,000 bytes, expected at mo"):
        span_files.read(str(tmp_path))


def test_more_images_than_fit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "MAX_IMAGES", 19)
    write_records(tmp_path, bars(0, 19, 20))
    with pytest.raises(DataError) as error:
        span_files.read(str(tmp_path))
    assert str(error.value) == (
        f"{tmp_path} has more than 19 test images, expected at most as many; give fewer"
    )


def test_records_with_much_else_in_them_are_refused(tmp_path, monkeypatch):
    """A small gzip file can be terabytes of valid records."""
    monkeypatch.setattr(span_files, "_SPLIT_BYTES", 10_000)
    write_records(tmp_path, bars(0, 20, 5))
    with pytest.raises(DataError) as error:
        span_files.read(str(tmp_path))
    assert str(error.value) == (
        f"{tmp_path} has more than 10,000 bytes of train records, up to "
        "train-00001-of-00002.tfrecord.gz, expected at most as many; give fewer "
        "images, or image and label without other features"
    )


@pytest.fixture
def counted(tmp_path):
    """Returns a span of 4 plain files with a counts.json, and its counts."""
    write_records(tmp_path, bars(0, 21, 10), suffix="")
    counts = {
        "train-00000-of-00002.tfrecord": 10,
        "train-00001-of-00002.tfrecord": 11,
        "test-00000-of-00002.tfrecord": 5,
        "test-00001-of-00002.tfrecord": 5,
    }
    (tmp_path / "counts.json").write_text(json.dumps(counts))
    return tmp_path, counts


def test_a_span_whose_counts_are_right_is_read(counted):
    folder, _ = counted
    assert len(span_files.read(str(folder))["train_labels"]) == 21


def test_a_file_that_is_cut_between_two_records_is_named(counted):
    folder, _ = counted
    path = folder / "train-00001-of-00002.tfrecord"
    whole = path.read_bytes()
    size = len(whole) // 11  # all of its records have the same size
    for count in (10, 1):
        path.write_bytes(whole[: size * count])
        with pytest.raises(DataError) as error:
            span_files.read(str(folder))
        assert str(error.value) == (
            f"{path} holds {count} records, expected 11 as counts.json states; get the "
            "file again"
        )
    (folder / "counts.json").unlink()
    assert len(span_files.read(str(folder))["train_labels"]) == 11  # not known


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda counts: {**counts, "train-2.tfrecord": 5},
            "names train-2.tfrecord, which is not there: the span is not complete; "
            "wait until it is, or correct counts.json",
        ),
        (
            lambda counts: {name: counts[name] for name in list(counts)[1:]},
            "does not name train-00000-of-00002.tfrecord, expected its number: the span"
            " is not complete; wait until it is, or correct counts.json",
        ),
        *(
            (
                lambda counts, wrong=wrong: wrong,
                "must be a JSON object with the number of records of each TFRecord "
                'file, such as {"train.tfrecord": 60000}; write it again',
            )
            for wrong in ([1], {"a": "1"}, {"a": True}, {"a": 0}, {"a": 1.5}, None)
        ),
    ],
)
def test_wrong_counts_are_named(counted, change, message):
    folder, counts = counted
    path = folder / "counts.json"
    path.write_text(json.dumps(change(counts)))
    with pytest.raises(DataError) as error:
        span_files.read(str(folder))
    assert str(error.value) == f"{path} {message}"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_counts_that_are_not_json_are_named(counted, data):
    folder, _ = counted
    path = folder / "counts.json"
    path.write_bytes(data)
    with pytest.raises(DataError) as error:
        span_files.read(str(folder))
    assert str(error.value).startswith(f"{path} is no JSON (")
    assert str(error.value).endswith("); write it again")


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink("nothing", path)]
)
def test_counts_that_are_no_file_are_named(counted, make):
    folder, _ = counted
    path = folder / "counts.json"
    path.unlink()
    make(path)
    with pytest.raises(DataError) as error:
        span_files.read(str(folder))
    assert str(error.value) == f"{path} is no regular file; write it again"

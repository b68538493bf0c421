"""The reader of TFRecord files, with records packed by hand and by TensorFlow."""

import gzip
import os
import re

import google_crc32c
import pytest
import tensorflow as tf

from components.datasets import record_files
from components.datasets.idx import DataError
from tests.support.tfrecords import header, pack

# "123456789" has the CRC-32C e3069283 (RFC 3720, appendix B.4, and others).
assert google_crc32c.value(b"123456789") == 0xE3069283


def error_of(function, path):
    with pytest.raises(DataError) as error:
        function(path)
    text = str(error.value)
    assert text.startswith(f"{path} cannot be read after ")
    assert text.endswith("; get the file again")
    return text


def read_all(path):
    return list(record_files.read(path))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reads_what_tensorflow_writes(tmp_path, suffix):
    records = [b"", b"a", bytes(range(256)) * 9]
    path = tmp_path / f"a.tfrecord{suffix}"
    kind = "GZIP" if suffix else ""
    with tf.io.TFRecordWriter(str(path), kind) as writer:
        for record in records:
            writer.write(record)
    assert read_all(path) == records
    if not suffix:
        assert path.read_bytes() == b"".join(map(pack, records))
        assert record_files.count(path) == 3


def test_a_file_without_records_has_none(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"")
    assert read_all(path) == []
    assert record_files.count(path) == 0


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_not_opened(tmp_path, make):
    """A named pipe would never end."""
    path = tmp_path / "a.tfrecord"
    make(path)
    for function in (read_all, record_files.count):
        assert error_of(function, path) == (
            f"{path} cannot be read after 0 records: it is no regular file; get the "
            "file again"
        )


@pytest.mark.parametrize("length", [2**47, 2**63, 2**64 - 1, 2**64 - 16, 2**20 + 1])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_length_that_no_example_has_is_refused(tmp_path, length, suffix):
    """TensorFlow's reader ends the process by a signal at 2^47."""
    path = tmp_path / f"a.tfrecord{suffix}"
    data = pack(b"first") + header(length) + bytes(4)
    path.write_bytes(gzip.compress(data) if suffix else data)
    assert error_of(read_all, path) == (
        f"{path} cannot be read after 1 records: the next one states a length of "
        f"{length:,} bytes, expected at most 1,048,576; get the file again"
    )
    if not suffix:
        assert error_of(record_files.count, path) == (
            f"{path} cannot be read after 1 records: the next one states a length of "
            f"{length:,} bytes, and the file ends before that; get the file again"
        )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "states a length of 3 bytes, and the file ends"),
        (lambda data: data[:-7], "states a length of 3 bytes, and the file ends"),
        (lambda data: data[:-8], "the file ends within the length of the next one"),
        (lambda data: b"\2" + data[1:], "checksum of the next one's length is wrong"),
        (lambda data: data[:8] + bytes(4) + data[12:], "length is wrong"),
    ],
)
@pytest.mark.parametrize("function", [read_all, record_files.count])
def test_damaged_lengths_are_named(tmp_path, damage, message, function):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(pack(b"first") + damage(pack(b"abc")))
    text = error_of(function, path)
    assert message in text
    assert "cannot be read after 1 records: " in text


@pytest.mark.parametrize("position", [12, 14, 15, 18])
def test_damaged_data_are_named(tmp_path, position):
    path = tmp_path / "a.tfrecord"
    data = bytearray(pack(b"abc"))
    data[position] ^= 1
    path.write_bytes(data)
    assert "the checksum of the next one's data is wrong" in error_of(read_all, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-9], "Compressed file ended before the end-of-stream"),
        (lambda data: data[:-8] + bytes(8), "CRC check failed"),
        (lambda data: b"no gzip", "Not a gzipped file"),
        (lambda data: data[:10] + b"\xff" * 9, "Error -3 while decompressing"),
    ],
)
def test_damaged_gzip_is_named(tmp_path, damage, message):
    path = tmp_path / "a.tfrecord.gz"
    path.write_bytes(damage(gzip.compress(pack(b"abc"))))
    assert message in error_of(read_all, path)


def test_a_file_that_is_not_there(tmp_path):
    for function in (read_all, record_files.count):
        assert re.search("No such file", error_of(function, tmp_path / "a.tfrecord"))

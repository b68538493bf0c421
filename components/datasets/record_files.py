"""The reader of TFRecord files that checks each length before it allocates memory.

TensorFlow's reader allocates whatever a record's length field states, and a length such
as 2^47 ends the process by a signal.

Format of a record: length (8 bytes), CRC of the length (4), data, CRC of the data (4);
all numbers are little-endian. https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

import gzip
import os
import pathlib
import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

from components.datasets.idx import DataError, find_kind
from model.files import regular_files

# The longest record: a tf.Example of 28 x 28 pixels has less than 1,000 bytes.
RECORD_BYTES = 1024**2

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8


class _RecordError(DataError):
    """A record is damaged; the message does not name the file."""


def read(file: str | os.PathLike) -> Iterator[bytes]:
    """Yields the records of a TFRecord file, after a check of their two checksums.

    Args:
      file: path of the file, which is gzip if its name ends in `.gz`.

    Raises:
      DataError: a record is damaged or longer than RECORD_BYTES.
      DataAccessError: a fault of the machine prevents reading.
    """
    path = pathlib.Path(file)
    number = 0
    try:
        _check_regular(path)
        with regular_files.open_regular(path) as raw:
            stream = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            while (length := _read_length(stream)) is not None:
                if length > RECORD_BYTES:
                    raise _RecordError(
                        f"the next one states a length of {length:,} bytes, expected "
                        f"at most {RECORD_BYTES:,}"
                    )
                data = stream.read(length + _CRC.size)
                if len(data) < length + _CRC.size:
                    raise _RecordError(
                        f"the next one states a length of {length:,} bytes, and the "
                        "file ends before that"
                    )
                (checksum,) = _CRC.unpack_from(data, length)
                data = data[:length]
                if _masked_crc(data) != checksum:
                    raise _RecordError("the checksum of the next one's data is wrong")
                yield data
                number += 1
    except (_RecordError, EOFError, OSError, zlib.error) as error:
        raise _describe(error, path, number=number) from error


def count(file: str | os.PathLike) -> int:
    """Returns the number of records in an uncompressed TFRecord file.

    Each record's length is checked against its checksum and the file's size; the data
    is skipped.

    Raises:
      DataError: a length is wrong, or the file ends in a record.
      DataAccessError: a fault of the machine prevents reading.
    """
    path = pathlib.Path(file)
    number = 0
    try:
        _check_regular(path)
        size = path.stat().st_size
        with regular_files.open_regular(path) as stream:
            end = 0
            while (length := _read_length(stream)) is not None:
                end += _HEADER.size + length + _CRC.size
                if end > size:
                    raise _RecordError(
                        f"the next one states a length of {length:,} bytes, and the "
                        "file ends before that"
                    )
                stream.seek(length + _CRC.size, os.SEEK_CUR)
                number += 1
    except (_RecordError, OSError) as error:
        raise _describe(error, path, number=number) from error
    return number


def _check_regular(path: pathlib.Path) -> None:
    """Raises _RecordError for a folder, and for a named pipe, which would never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise _RecordError("it is no regular file")


def _read_length(stream: BinaryIO | gzip.GzipFile) -> int | None:
    """Returns the length of the next record's data; None at the end of the file."""
    header = stream.read(_HEADER.size)
    if not header:
        return None
    if len(header) < _HEADER.size:
        raise _RecordError("the file ends within the length of the next one")
    length, checksum = _HEADER.unpack(header)
    if _masked_crc(header[:8]) != checksum:
        raise _RecordError("the checksum of the next one's length is wrong")
    return length


def _masked_crc(data: bytes) -> int:
    """Returns the CRC-32C of some bytes, rotated and shifted as TFRecords have it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def _describe(error: Exception, path: pathlib.Path, *, number: int) -> DataError:
    """Returns the error to raise for a file that failed after `number` records."""
    reason = getattr(error, "strerror", None) or error
    return find_kind(error)(
        f"{path} cannot be read after {number} records: {reason}; get the file again"
    )

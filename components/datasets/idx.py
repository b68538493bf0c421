"""The reader and writer of IDX, the file format of MNIST's images and labels."""

import gzip
import hashlib
import io
import math
import os
import pathlib
import struct
import zlib

import numpy as np

from model.errors import PipelineError
from model.files import machine_faults, regular_files

Arrays = dict[str, np.ndarray]  # {stream: uint8 [N, 28, 28] or uint8 [N]}

# Stream -> beginning of its file's name, and number of dimensions in its header.
STREAMS = {
    "train_images": ("train-images", 3),
    "train_labels": ("train-labels", 1),
    "test_images": ("t10k-images", 3),
    "test_labels": ("t10k-labels", 1),
}

IMAGE_SHAPE = (28, 28)
MAX_IMAGES = 1_000_000  # of a split: 14 times MNIST's, and 784 MB in memory
_UINT8 = 8  # the format's code for unsigned bytes
_GZIP_MAGIC = b"\x1f\x8b"


class DataError(PipelineError):
    """A data set cannot be used; the message says why, and what to do."""

    is_bad_input = True


class DataAccessError(DataError):
    """A data set cannot be read now: a full disk, a time-out or a lost connection."""

    is_bad_input = False  # the same command may succeed later


class SplitError(DataError):
    """A split of a data set has no images or too few."""


def find_kind(error: Exception) -> type[DataError]:
    """Returns the class of the error to raise for data that cannot be read.

    It is DataAccessError if the machine is at fault, so that the same data may be read
    later.

    Args:
      error: the error of reading.
    """
    is_fault = isinstance(error, OSError) and machine_faults.is_fault(error)
    return DataAccessError if is_fault else DataError


def file_name(stream: str) -> str:
    """Returns a stream's file name: `train-images-idx3-ubyte` for `train_images`."""
    stem, dimensions = STREAMS[stream]
    return f"{stem}-idx{dimensions}-ubyte"


def max_file_bytes(stream: str) -> int:
    """Returns the maximal size of a stream's file of MAX_IMAGES, plain or gzip."""
    content = MAX_IMAGES * math.prod(IMAGE_SHAPE[: STREAMS[stream][1] - 1])
    return content + content // 1000 + 1024  # gzip of noise is a little larger


def find_files(folder: str | os.PathLike) -> dict[str, pathlib.Path]:
    """Returns the paths of the four IDX files in a folder, by the keys of STREAMS.

    A file may be named `train-images-idx3-ubyte` or `train-images.idx3-ubyte`, with or
    without `.gz`. If there are several, the first in this order is used.

    Raises:
      DataError: the folder or a file is missing; the message names all missing files.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give one with the four IDX files")
    found = {}
    for stream in STREAMS:
        dashed = file_name(stream)
        dotted = dashed.replace("-idx", ".idx")
        for name in (dashed, f"{dashed}.gz", dotted, f"{dotted}.gz"):
            if stream not in found and (folder / name).is_file():
                found[stream] = folder / name
    missing = [file_name(stream) for stream in STREAMS if stream not in found]
    if missing:
        raise DataError(
            f"{folder} lacks {', '.join(missing)} (also looked for .idx in place of "
            "-idx, and for .gz); put the missing files there"
        )
    return found


def read_folder(folder: str | os.PathLike) -> Arrays:
    """Reads the four IDX files in a folder and returns their arrays, by stream.

    Raises:
      DataError: a file is missing, damaged or can't be read.
      DataAccessError: a fault of the machine prevents reading.
    """
    streams = {}
    for stream, path in find_files(folder).items():
        try:
            size, limit = path.stat().st_size, max_file_bytes(stream)
            if size > limit:
                raise DataError(
                    f"{path} has {size:,} bytes, expected at most {limit:,} for "
                    f"{MAX_IMAGES:,} images or labels; give fewer"
                )
            streams[stream] = (str(path), regular_files.read_bytes(path))
        except OSError as error:
            raise find_kind(error)(
                f"{path} cannot be read: {error.strerror}; check the file and its "
                "permissions"
            ) from error
    return parse_streams(streams)


def parse_streams(streams: dict[str, tuple[str, bytes]]) -> Arrays:
    """Parses the bytes of the four IDX files, checks them and returns their arrays.

    Args:
      streams: for each key of STREAMS, the file's name for messages and its bytes.

    Raises:
      DataError: a stream is damaged, or a split has more images than labels or fewer.
    """
    arrays = {
        stream: parse(stream, name, data=data)
        for stream, (name, data) in streams.items()
    }
    for split in ("train", "test"):
        images, labels = f"{split}_images", f"{split}_labels"
        if len(arrays[images]) != len(arrays[labels]):
            raise DataError(
                f"{streams[images][0]} holds {len(arrays[images])} images but "
                f"{streams[labels][0]} holds {len(arrays[labels])} labels; expected as "
                "many: take both files from the same source"
            )
    return arrays


def parse(stream: str, name: str, *, data: bytes) -> np.ndarray:
    """Returns uint8 [N, 28, 28] (images) or [N] (labels) from an IDX file's bytes.

    Args:
      stream: a key of STREAMS, which determines the expected header.
      name: the file's name, for messages; if it ends in `.gz`, the data must be gzip.
      data: the file's bytes, plain or gzip.

    Raises:
      DataError: the data is damaged, empty, or has another header or size.
    """
    dimensions = STREAMS[stream][1]
    header_size = 4 + 4 * dimensions
    content: bytes | memoryview
    if data.startswith(_GZIP_MAGIC):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                header = file.read(header_size)
                shape = _parse_header(stream, name, header=header)
                # One byte more shows whether there is more, and lets the reader check
                # the checksum at the end.
                content = file.read(math.prod(shape) + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(
                f"{name} is damaged or truncated gzip ({error}); get the file again"
            ) from error
    elif name.endswith(".gz"):
        raise DataError(
            f"{name} is not gzip: it begins with 0x{data[:2].hex()}, expected 0x1f8b; "
            "rename it without .gz if it is a plain IDX file, else get it again"
        )
    else:
        shape = _parse_header(stream, name, header=data[:header_size])
        content = memoryview(data)[header_size:]  # a slice of bytes would be a copy
    expected, found = math.prod(shape), len(content)
    if found != expected:
        problem = "is truncated" if found < expected else "has trailing bytes"
        # Decompression stopped at the first trailing byte.
        more = " or more" if found > expected and data.startswith(_GZIP_MAGIC) else ""
        raise DataError(
            f"{name} {problem}: it holds {header_size + found} bytes{more}, expected "
            f"{header_size + expected} for the {shape[0]} that its header states; get "
            "the file again"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _parse_header(stream: str, name: str, *, header: bytes) -> tuple[int, ...]:
    """Returns the shape in an IDX file's header, after a check of each number.

    Args:
      stream: a key of STREAMS, which determines the expected header.
      name: the file's name, for messages.
      header: the file's first bytes; fewer than a header has if the file is truncated.

    Raises:
      DataError: the header is truncated, or states another format, image size or number
        of images than 1 to MAX_IMAGES.
    """
    dimensions = STREAMS[stream][1]
    header_size = 4 + 4 * dimensions
    magic = struct.pack(">4B", 0, 0, _UINT8, dimensions)
    if header[:4] != magic[: len(header)]:
        raise DataError(
            f"{name} has the magic number 0x{header[:4].hex()}, expected "
            f"0x{magic.hex()} ({stream.replace('_', ' ')}); check that it is this "
            "file, or get it again"
        )
    if len(header) < header_size:
        raise DataError(
            f"{name} is truncated: it holds {len(header)} bytes, expected at least the "
            f"{header_size} of its header; get the file again"
        )
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if shape[1:] != IMAGE_SHAPE[: dimensions - 1]:
        raise DataError(
            f"{name} holds images of {shape[1]} x {shape[2]} pixels, expected 28 x 28; "
            "give a data set of that size"
        )
    if shape[0] == 0:
        raise DataError(f"{name} holds nothing, expected at least 1; get it again")
    if shape[0] > MAX_IMAGES:
        raise DataError(
            f"{name} states {shape[0]:,} images or labels in its header, expected at "
            f"most {MAX_IMAGES:,}; get the file again, or give fewer"
        )
    return shape


def to_bytes(array: np.ndarray) -> bytes:
    """Returns a uint8 array in IDX format, uncompressed, as digests are computed."""
    if array.dtype != np.uint8:
        raise ValueError(f"array must be uint8, got {array.dtype}")
    header = struct.pack(f">4B{array.ndim}I", 0, 0, _UINT8, array.ndim, *array.shape)
    return header + array.tobytes()


def digest_streams(arrays: Arrays) -> dict[str, str]:
    """Returns the SHA-256 of each array in IDX format, by the name of its stream."""
    return {
        stream: hashlib.sha256(to_bytes(array)).hexdigest()
        for stream, array in arrays.items()
    }

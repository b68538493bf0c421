"""The reader of a span's files: four IDX files, or TFRecord files of tf.Examples."""

import collections
import json
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf import message

from components.datasets import idx, record_files
from components.datasets.idx import DataError
from model.files import regular_files

COUNTS_NAME = "counts.json"  # an optional file: {file name: number of records}
_COUNTS_BYTES = 1024**2  # maximum
_LONGEST_NAME = 255  # characters of a name in counts.json that a message shows
# Maximum of a split's records: more than twice those of MAX_IMAGES without other
# features. A few megabytes of gzip can be terabytes of valid records.
_SPLIT_BYTES = 2 * 1024**3
_PIXELS = idx.IMAGE_SHAPE[0] * idx.IMAGE_SHAPE[1]
_MARK = "tfrecord"  # part of the file names, such as train-00000-of-00002.tfrecord.gz
_COMPLETE = re.compile(rf".*{_MARK}(-[0-9]+-of-[0-9]+)?(\.gz)?")
_SHARD = re.compile(r"-([0-9]+)-of-([0-9]+)")


def read(folder: str) -> idx.Arrays:
    """Returns the images and labels in a span's IDX files or TFRecord files.

    TFRecord files are named `train*tfrecord` and `test*tfrecord`, with `.gz` if they
    are gzip. Files with `-NNNNN-of-NNNNN` in their name, anywhere before `.gz`, are
    shards, and all shards must be present. Each record is a tf.Example with the feature
    `image`, a string of 784 bytes in row-major order, and `label`, an integer. If there
    is a counts.json, each file must have the number of records that it states.

    Args:
      folder: a local folder with the files. Without TFRecord files it must have the
        four IDX files.

    Raises:
      DataError: a file is missing, incomplete or damaged.
    """
    names = sorted(os.listdir(folder))
    records = {
        split: [
            pathlib.Path(folder, name)
            for name in names
            if name.startswith(split) and _MARK in name
        ]
        for split in ("train", "test")
    }
    if not any(records.values()):
        return idx.read_folder(folder)
    missing = [split for split, files in records.items() if not files]
    if missing:
        raise DataError(
            f"{folder} has no {missing[0]}*{_MARK}* file, expected at least one beside "
            "those of the other split; put it there"
        )
    arrays = {}
    counts = _read_counts(folder, [*records["train"], *records["test"]])
    for split, files in records.items():
        _check_complete(folder, [file.name for file in files])
        images, labels = bytearray(), bytearray()
        size = 0
        for file in files:
            before = len(labels)
            for image, label, record_size in _read_examples(file):
                images += image
                labels.append(label)
                size += record_size
                if size > _SPLIT_BYTES:
                    raise DataError(
                        f"{folder} has more than {_SPLIT_BYTES:,} bytes of {split} "
                        f"records, up to {file.name}, expected at most as many; give "
                        "fewer images, or image and label without other features"
                    )
                if len(labels) > idx.MAX_IMAGES:
                    raise DataError(
                        f"{folder} has more than {idx.MAX_IMAGES:,} {split} images, "
                        "expected at most as many; give fewer"
                    )
            _check_count(file, len(labels) - before, counts=counts)
        arrays[f"{split}_images"] = np.frombuffer(images, np.uint8).reshape(
            -1, *idx.IMAGE_SHAPE
        )
        arrays[f"{split}_labels"] = np.frombuffer(labels, np.uint8)
    return arrays


def _read_counts(folder: str, files: Sequence[pathlib.Path]) -> dict[str, int]:
    """Returns the number of records of each file from counts.json; {} without it.

    Raises:
      DataError: counts.json is damaged, or names other files than are there.
    """
    path = pathlib.Path(folder, COUNTS_NAME)
    if not os.path.lexists(path):
        return {}
    if not path.is_file():
        raise DataError(f"{path} is no regular file; write it again")
    try:
        with regular_files.open_regular(path) as file:
            counts = json.loads(file.read(_COUNTS_BYTES))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}); write it again") from error
    if not isinstance(counts, dict) or not all(
        type(count) is int and count > 0 for count in counts.values()
    ):
        raise DataError(
            f"{path} must be a JSON object with the number of records of each TFRecord "
            'file, such as {"train.tfrecord": 60000}; write it again'
        )
    for name in sorted(counts.keys() ^ {file.name for file in files}):
        shown = name if len(name) < _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
        problem = "which is not there" if name in counts else "expected its number"
        verb = "names" if name in counts else "does not name"
        raise DataError(
            f"{path} {verb} {shown}, {problem}: the span is not complete; wait until "
            f"it is, or correct {COUNTS_NAME}"
        )
    return counts


def _check_count(file: pathlib.Path, found: int, *, counts: dict[str, int]) -> None:
    """Raises DataError if a file has no records, or another number than expected."""
    if not found:
        raise DataError(f"{file} holds nothing, expected at least 1; get it again")
    expected = counts.get(file.name, found)
    if found != expected:
        raise DataError(
            f"{file} holds {found:,} records, expected {expected:,} as {COUNTS_NAME} "
            "states; get the file again"
        )


def _check_complete(folder: str, names: Sequence[str]) -> None:
    """Raises DataError if a file has a temporary name, or if a shard is missing."""
    shards: dict[tuple[str, str, int], set[int]] = collections.defaultdict(set)
    for name in names:
        if not _COMPLETE.fullmatch(name):
            raise DataError(
                f"{folder}/{name} is no file of TFRecords by its name: expected one "
                f"that ends in {_MARK} or {_MARK}-NNNNN-of-NNNNN, with or without .gz; "
                "wait until the span is complete, or remove the file"
            )
        shard = _SHARD.search(name)
        if shard:
            around = (name[: shard.start()], name[shard.end() :], int(shard[2]))
            shards[around].add(int(shard[1]))
    for (before, after, count), numbers in shards.items():
        lacking = next((n for n in range(count) if n not in numbers), None)
        if lacking is not None:
            raise DataError(
                f"{folder} lacks {before}-{lacking:05}-of-{count:05}{after}, expected "
                f"all {count:,} shards: the span is not complete; wait until it is, or "
                "put the file there"
            )


def _read_examples(file: pathlib.Path) -> Iterator[tuple[bytes, int, int]]:
    """Yields the image (784 bytes), the label and the size of each record of a file."""
    for number, record in enumerate(record_files.read(file)):
        image, label = _parse_record(record, f"record {number} of {file}")
        yield image, label, len(record)


def _parse_record(record: bytes, where: str) -> tuple[bytes, int]:
    """Returns the image and label of a tf.Example; `where` names it in messages."""
    try:
        feature = tf.train.Example.FromString(record).features.feature
    except message.DecodeError as error:
        raise DataError(
            f"{where} is no tf.Example; write image and label as tf.Examples"
        ) from error
    images = feature["image"].bytes_list.value
    labels = feature["label"].int64_list.value
    if len(images) > 1 or len(labels) > 1:
        raise DataError(
            f"{where} has {len(images):,} images and {len(labels):,} labels, expected "
            "one of each; write a record for each image"
        )
    sizes = [len(image) for image in images]
    if sizes != [_PIXELS]:
        raise DataError(
            f"{where} has an image of {sizes or 'no'} bytes, expected [{_PIXELS}]: 28 "
            "x 28 pixels in row-major order"
        )
    if len(labels) != 1 or not 0 <= labels[0] <= 255:
        raise DataError(f"{where} has the label {list(labels)}, expected one of 0 to 9")
    return images[0], labels[0]

"""The files of a span: four IDX files, or TFRecords of tf.Examples."""

import collections
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from google.protobuf import message

from components.datasets import idx
from components.datasets.idx import DataAccessError, DataError
from model.files import machine_faults

_PIXELS = idx.IMAGE_SHAPE[0] * idx.IMAGE_SHAPE[1]
_MARK = "tfrecord"  # in the names of such files: train-00000-of-00002.tfrecord.gz
_COMPLETE = re.compile(rf".*{_MARK}(-[0-9]+-of-[0-9]+)?(\.gz)?")
_SHARD = re.compile(r"-([0-9]+)-of-([0-9]+)")


def read(folder: str) -> idx.Arrays:
    """Reads the four IDX files of a folder, or its TFRecords.

    TFRecord files are named `train*tfrecord` and `test*tfrecord`, with `.gz` if they
    are gzip; those with `-NNNNN-of-NNNNN` in their name, anywhere before `.gz`, are
    shards, of which none may be missing. Each record is a tf.Example: `image`, a string
    of 784 bytes, the pixels in row-major order; `label`, an integer.

    Raises:
      DataError: naming the file, what was found, what was expected and what to do.
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
    for split, files in records.items():
        _check_complete(folder, [file.name for file in files])
        images, labels = zip(*(pair for file in files for pair in _read_records(file)))
        arrays[f"{split}_images"] = np.frombuffer(b"".join(images), np.uint8).reshape(
            -1, *idx.IMAGE_SHAPE
        )
        arrays[f"{split}_labels"] = np.array(labels, np.uint8)
    return arrays


def _check_complete(folder: str, names: Sequence[str]) -> None:
    """Raises DataError if a file is still being written, or a shard is not there."""
    shards: dict[tuple[str, str, int], set[int]] = collections.defaultdict(set)
    for name in names:
        if not _COMPLETE.fullmatch(name):
            raise DataError(
                f"{folder}/{name} is no file of TFRecords by its name: expected one "
                f"that ends in {_MARK} or {_MARK}-NNNNN-of-NNNNN, with or without .gz; "
                "wait until the span is complete, or take the file away"
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


def _read_records(file: pathlib.Path) -> list[tuple[bytes, int]]:
    gzip = tf.compat.v1.io.TFRecordOptions("GZIP" if file.suffix == ".gz" else "")
    found: list[tuple[bytes, int]] = []
    try:
        # Unlike tf.data, this fixes no TensorFlow devices for the process.
        for record in tf.compat.v1.io.tf_record_iterator(str(file), gzip):
            found.append(_parse_record(record, f"record {len(found)} of {file}"))
    except tf.errors.OpError as error:
        kind = DataAccessError if machine_faults.is_fault(error) else DataError
        raise kind(
            f"{file} cannot be read after {len(found)} records: {error.message}; get "
            "the file again"
        ) from error
    if not found:
        raise DataError(f"{file} holds nothing, expected at least 1; get it again")
    return found


def _parse_record(record: bytes, where: str) -> tuple[bytes, int]:
    try:
        feature = tf.train.Example.FromString(record).features.feature
    except message.DecodeError as error:
        raise DataError(
            f"{where} is no tf.Example; write image and label as tf.Examples"
        ) from error
    images = feature["image"].bytes_list.value
    labels = feature["label"].int64_list.value
    sizes = [len(image) for image in images]
    if sizes != [_PIXELS]:
        raise DataError(
            f"{where} has an image of {sizes or 'no'} bytes, expected [{_PIXELS}]: 28 "
            "x 28 pixels in row-major order"
        )
    if len(labels) != 1 or not 0 <= labels[0] <= 255:
        raise DataError(f"{where} has the label {list(labels)}, expected one of 0 to 9")
    return images[0], labels[0]

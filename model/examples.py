"""The features of the examples in TFRecord files, and the functions that read them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from model.config import IMAGE_SHAPE

RAW = "image"  # in Ingest's examples: one byte per pixel, in row-major order
PIXELS = "pixels"  # in Transform's examples: the same bytes
BITS = "bits"  # in Transform's examples: the fixed binarization, one bit per pixel
LABEL = "label"  # in both

_SIZE = math.prod(IMAGE_SHAPE)
_LABELS = 1_000  # examples whose labels are parsed at once

FEATURES = {
    **dict.fromkeys((RAW, PIXELS, BITS), tf.io.FixedLenFeature([], tf.string)),
    LABEL: tf.io.FixedLenFeature([], tf.int64),
}

# The features that older releases wrote in place of PIXELS and BITS: one number per
# pixel, in [0, 1]. Exports read them too. The default marks a missing feature.
OLD_FEATURES = {
    PIXELS: ("image", tf.io.FixedLenFeature(IMAGE_SHAPE, tf.float32, [-1.0] * _SIZE)),
    BITS: ("binarized", tf.io.FixedLenFeature(IMAGE_SHAPE, tf.int64, [-1] * _SIZE)),
}

_OCTETS = np.array([bytes([value]) for value in range(256)], dtype=object)
_SHIFTS = np.arange(7, -1, -1, dtype=np.uint8)  # of a byte's bits, highest bit first


class Examples(NamedTuple):
    """A batch of examples."""

    images: tf.Tensor  # uint8 [B, 28, 28, 1], in 0..255
    labels: tf.Tensor  # int64 [B]
    serialized: tf.Tensor  # string [B]: the examples as serialized tf.Examples


def read_examples(
    files: Sequence[str], image: str, *, batch_size: int
) -> tf.data.Dataset:
    """Returns a data set of `Examples` batches, read in the order of the file names.

    Args:
      files: patterns of gzipped TFRecord files.
      image: the feature to decode: RAW, PIXELS or BITS. Bits become 0 or 255.
      batch_size: B; the last batch may be smaller.
    """
    decode = _unpack_bits if image == BITS else decode_pixels

    def parse(serialized):
        spec = {name: FEATURES[name] for name in (image, LABEL)}
        parsed = tf.io.parse_example(serialized, spec)
        return Examples(decode(parsed[image]), parsed[LABEL], serialized)

    batches = _read_records(files).batch(batch_size)
    return batches.map(parse, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def read_labels(files: Sequence[str]) -> np.ndarray:
    """Returns the labels of all examples, int64 [N], in the order of the file names.

    Args:
      files: patterns of gzipped TFRecord files.
    """

    def parse(serialized):
        return tf.io.parse_example(serialized, {LABEL: FEATURES[LABEL]})[LABEL]

    batches = _read_records(files).batch(_LABELS).map(parse)
    parts = list(batches.as_numpy_iterator())
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def count_examples(files: Sequence[str]) -> int:
    """Returns the number of examples in the files.

    Args:
      files: patterns of gzipped TFRecord files.
    """
    return int(_read_records(files).reduce(np.int64(0), lambda count, _: count + 1))


def parse_model_input(serialized: tf.Tensor, image: str) -> tf.Tensor:
    """Returns the images in serialized tf.Examples, as the model takes them.

    Each example must have the feature that Transform writes or its counterpart of older
    releases.

    Args:
      serialized: string [B], the examples.
      image: the feature that holds the images: PIXELS or BITS.

    Returns:
      float32 [B, 28, 28, 1] in [0, 1].

    Raises:
      InvalidArgumentError: an example is no tf.Example or has neither feature.
    """
    old, old_feature = OLD_FEATURES[image]
    spec = {image: tf.io.FixedLenFeature([], tf.string, ""), old: old_feature}
    parsed = tf.io.parse_example(serialized, spec)
    size, decode = (_SIZE // 8, _unpack_bits) if image == BITS else (_SIZE, _decode)
    has_new = tf.equal(tf.strings.length(parsed[image]), size)
    has_old = tf.not_equal(parsed[old][:, 0, 0, 0], -1)
    message = f"every example must have the feature {image} of {size} bytes, or {old}"
    check = tf.debugging.Assert(
        tf.reduce_all(has_new | has_old), [message, has_new, has_old]
    )
    with tf.control_dependencies([check]):
        encoded = tf.identity(parsed[image])
    images = tf.cast(decode(encoded), tf.float32) / 255.0
    old_images = tf.cast(parsed[old], tf.float32)
    return tf.where(has_new[:, tf.newaxis, tf.newaxis, tf.newaxis], images, old_images)


def decode_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Returns images, uint8 [B, 28, 28, 1], decoded from one byte per pixel.

    Args:
      encoded: string [B], the 784 bytes of each image in row-major order.

    Raises:
      InvalidArgumentError: an image does not have 784 bytes.
    """
    check = tf.debugging.assert_equal(
        tf.strings.length(encoded),
        _SIZE,
        message=f"every image must have {_SIZE} bytes, one per pixel",
    )
    with tf.control_dependencies([check]):
        return _decode(encoded)


def pack_bits(bits: tf.Tensor) -> tf.Tensor:
    """Returns binary images, packed as by `np.packbits` into 98 bytes each: string [B].

    Args:
      bits: [B, 28, 28, 1], of 0 or 1, of any number type.
    """
    by_byte = tf.reshape(tf.cast(bits, tf.int32), [-1, _SIZE // 8, 8])
    values = tf.reduce_sum(by_byte * (1 << _SHIFTS.astype(np.int32)), axis=-1)
    return tf.strings.reduce_join(tf.gather(tf.constant(_OCTETS), values), axis=-1)


def _unpack_bits(packed: tf.Tensor) -> tf.Tensor:
    """Returns images of 0 or 255, uint8 [B, 28, 28, 1], from strings of `pack_bits`."""
    values = tf.io.decode_raw(packed, tf.uint8, fixed_length=_SIZE // 8)
    values = values[:, :, tf.newaxis]
    bits = tf.bitwise.bitwise_and(tf.bitwise.right_shift(values, _SHIFTS), np.uint8(1))
    return tf.reshape(bits * np.uint8(255), [-1, *IMAGE_SHAPE])


def _decode(encoded: tf.Tensor) -> tf.Tensor:
    """Returns images, uint8 [B, 28, 28, 1], from strings [B]; does not check sizes."""
    pixels = tf.io.decode_raw(encoded, tf.uint8, fixed_length=_SIZE)
    return tf.reshape(pixels, [-1, *IMAGE_SHAPE])


def _read_records(files: Sequence[str]) -> tf.data.Dataset:
    """Returns the records of gzipped TFRecord files, in the order of file names."""
    names = tf.data.Dataset.list_files(list(files), shuffle=False)
    return tf.data.TFRecordDataset(names, compression_type="GZIP")

"""The examples in TFRecord files: one description of their features, one reader."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from model.config import IMAGE_SHAPE

RAW = "image"  # of Ingest's examples: the pixels' bytes, in row-major order
PIXELS = "pixels"  # of Transform's: the same bytes
BITS = "bits"  # of Transform's: the fixed binarization, as `np.packbits` packs it
LABEL = "label"  # of both

_SIZE = math.prod(IMAGE_SHAPE)

FEATURES = {
    **dict.fromkeys((RAW, PIXELS, BITS), tf.io.FixedLenFeature([], tf.string)),
    LABEL: tf.io.FixedLenFeature([], tf.int64),
}

# What older releases wrote in place of PIXELS and BITS: a number per pixel, in [0, 1].
# An export reads them too. The default marks an example that lacks the feature.
OLD_FEATURES = {
    PIXELS: ("image", tf.io.FixedLenFeature(IMAGE_SHAPE, tf.float32, [-1.0] * _SIZE)),
    BITS: ("binarized", tf.io.FixedLenFeature(IMAGE_SHAPE, tf.int64, [-1] * _SIZE)),
}

_OCTETS = np.array([bytes([value]) for value in range(256)], dtype=object)
_SHIFTS = np.arange(7, -1, -1, dtype=np.uint8)  # of a byte's bits, the highest first


class Examples(NamedTuple):
    """A batch of examples."""

    images: tf.Tensor  # uint8 [B, 28, 28, 1], in 0..255
    labels: tf.Tensor  # int64 [B]
    serialized: tf.Tensor  # string [B]: the same as tf.Examples


def read_examples(
    files: Sequence[str], image: str, *, batch_size: int
) -> tf.data.Dataset:
    """Returns batches of `Examples`, in the order of the files' names.

    Args:
      files: patterns of gzipped TFRecord files.
      image: the feature to decode: RAW, PIXELS or BITS.
      batch_size: B; the last batch has what is left.
    """
    decode = _unpack_bits if image == BITS else decode_pixels

    def parse(serialized):
        spec = {name: FEATURES[name] for name in (image, LABEL)}
        parsed = tf.io.parse_example(serialized, spec)
        return Examples(decode(parsed[image]), parsed[LABEL], serialized)

    batches = _read_records(files).batch(batch_size)
    return batches.map(parse, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def count_examples(files: Sequence[str]) -> int:
    """Returns how many examples the files have.

    Args:
      files: patterns of gzipped TFRecord files.
    """
    return int(_read_records(files).reduce(np.int64(0), lambda count, _: count + 1))


def parse_model_input(serialized: tf.Tensor, image: str) -> tf.Tensor:
    """Returns a model's images, float32 [B, 28, 28, 1], from tf.Examples: string [B].

    Each example has the feature that Transform writes, or the one of older releases.

    Args:
      serialized: the examples.
      image: the feature that the model takes: PIXELS or BITS.

    Raises:
      InvalidArgumentError: an example is none, or has neither feature.
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
    """Returns images, uint8 [B, 28, 28, 1], from the bytes of each: string [B].

    Raises:
      InvalidArgumentError: an image has another number of bytes.
    """
    check = tf.debugging.assert_equal(
        tf.strings.length(encoded),
        _SIZE,
        message=f"every image must have {_SIZE} bytes, one a pixel",
    )
    with tf.control_dependencies([check]):
        return _decode(encoded)


def pack_bits(bits: tf.Tensor) -> tf.Tensor:
    """Returns each image's bits in bytes, string [B], as `np.packbits` packs them.

    Args:
      bits: [B, 28, 28, 1], of 0 or 1.
    """
    by_byte = tf.reshape(tf.cast(bits, tf.int32), [-1, _SIZE // 8, 8])
    values = tf.reduce_sum(by_byte * (1 << _SHIFTS.astype(np.int32)), axis=-1)
    return tf.strings.reduce_join(tf.gather(tf.constant(_OCTETS), values), axis=-1)


def _unpack_bits(packed: tf.Tensor) -> tf.Tensor:
    """Returns images of 0 or 255, uint8 [B, 28, 28, 1], from `pack_bits`'s strings."""
    values = tf.io.decode_raw(packed, tf.uint8, fixed_length=_SIZE // 8)
    values = values[:, :, tf.newaxis]
    bits = tf.bitwise.bitwise_and(tf.bitwise.right_shift(values, _SHIFTS), np.uint8(1))
    return tf.reshape(bits * np.uint8(255), [-1, *IMAGE_SHAPE])


def _decode(encoded: tf.Tensor) -> tf.Tensor:
    """Returns images, uint8 [B, 28, 28, 1], from 784 bytes of each string: [B]."""
    pixels = tf.io.decode_raw(encoded, tf.uint8, fixed_length=_SIZE)
    return tf.reshape(pixels, [-1, *IMAGE_SHAPE])


def _read_records(files: Sequence[str]) -> tf.data.Dataset:
    names = tf.data.Dataset.list_files(list(files), shuffle=False)
    return tf.data.TFRecordDataset(names, compression_type="GZIP")

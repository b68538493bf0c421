"""Transformed examples, as Transform writes them."""

import numpy as np
import tensorflow as tf


def example(image, bits, label=0) -> bytes:
    """Returns a serialized example as Transform writes it.

    Args:
      image: 784 pixels, multiples of 1/255 in [0, 1].
      bits: 784 values, 0 or 1.
      label: an integer.
    """
    message = tf.train.Example()
    feature = message.features.feature
    pixels = np.round(np.ravel(image) * 255).astype(np.uint8)
    feature["pixels"].bytes_list.value.append(pixels.tobytes())
    packed = np.packbits(np.ravel(bits).astype(np.uint8))
    feature["bits"].bytes_list.value.append(packed.tobytes())
    feature["label"].int64_list.value.append(label)
    return message.SerializeToString()


def write(path, images, bits, labels=None) -> None:
    """Writes images, bits and labels to a gzipped TFRecord file, as Transform does."""
    labels = np.zeros(len(images), int) if labels is None else labels
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for row in zip(images, bits, labels):
            writer.write(example(*row))

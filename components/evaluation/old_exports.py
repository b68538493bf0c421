"""Baselines that an older release exported: they parse that release's examples alone.

An older Transform wrote a number per pixel, where today's writes bytes. A baseline of
that time gets today's examples with those features added, so that the same images are
measured by the same signature.
"""

import math
import os

import numpy as np
import tensorflow as tf

from components.evaluation.measure import Signatures
from model.config import IMAGE_SHAPE
from model.examples import BITS, OLD_FEATURES, PIXELS

_SIGNATURE = "elbo_examples"
_SIZE = math.prod(IMAGE_SHAPE)


def needs_old_examples(signatures: Signatures) -> bool:
    """Whether an export understands examples of older releases, and not today's.

    An export that understands neither is broken, and no other examples mend it.
    """
    example = tf.train.Example()
    feature = example.features.feature
    feature[PIXELS].bytes_list.value.append(bytes(_SIZE))
    feature[BITS].bytes_list.value.append(bytes(_SIZE // 8))
    today = example.SerializeToString()
    return not _understands(signatures, today) and _understands(
        signatures, to_old_example(today)
    )


def to_old_example(serialized: bytes) -> bytes:
    """Returns an example of Transform with the features of older releases added."""
    example = tf.train.Example.FromString(serialized)
    feature = example.features.feature
    pixels = np.frombuffer(feature[PIXELS].bytes_list.value[0], np.uint8)
    bits = np.frombuffer(feature[BITS].bytes_list.value[0], np.uint8)
    floats = pixels.astype(np.float32) / np.float32(255)
    (grey, _), (binarized, _) = OLD_FEATURES[PIXELS], OLD_FEATURES[BITS]
    feature[grey].float_list.value.extend(floats.tolist())
    feature[binarized].int64_list.value.extend(np.unpackbits(bits).tolist())
    return example.SerializeToString()


def write_old_examples(source: str, target: str) -> None:
    """Writes the gzipped TFRecord files of a folder, converted, to another folder.

    Args:
      source: folder or URI of a split of Transform's examples.
      target: folder or URI, made here.
    """
    tf.io.gfile.makedirs(target)
    for path in sorted(tf.io.gfile.glob(os.path.join(source, "*"))):
        converted = os.path.join(target, os.path.basename(path))
        with tf.io.TFRecordWriter(converted, "GZIP") as writer:
            for serialized in tf.data.TFRecordDataset(path, compression_type="GZIP"):
                writer.write(to_old_example(serialized.numpy()))


def _understands(signatures: Signatures, example: bytes) -> bool:
    if _SIGNATURE not in signatures:
        return False
    try:
        signatures[_SIGNATURE](examples=tf.constant([example]))
    except tf.errors.InvalidArgumentError:
        return False
    return True

"""Examples for baselines that an older release exported.

An older release's Transform wrote a number for each pixel; now Transform writes bytes.
The export of an older release parses only the numbers. So it gets the current examples
with those features added, and its signature measures the same images.
"""

import math

import numpy as np
import tensorflow as tf

from components.evaluation.measure import Signatures
from model.config import IMAGE_SHAPE
from model.examples import BITS, OLD_FEATURES, PIXELS

_SIGNATURE = "elbo_examples"
_SIZE = math.prod(IMAGE_SHAPE)


def needs_old_examples(signatures: Signatures) -> bool:
    """Returns whether an export parses examples of older releases only.

    An export that can parse neither these nor current examples is broken: the result is
    False.

    Args:
      signatures: the export's signatures.
    """
    example = tf.train.Example()
    feature = example.features.feature
    feature[PIXELS].bytes_list.value.append(bytes(_SIZE))
    feature[BITS].bytes_list.value.append(bytes(_SIZE // 8))
    today = example.SerializeToString()
    return not _can_parse(signatures, today) and _can_parse(
        signatures, to_old_example(today)
    )


def to_old_example(serialized: bytes) -> bytes:
    """Returns a serialized tf.Example with the features of older releases added.

    Args:
      serialized: a serialized tf.Example of the current Transform.
    """
    example = tf.train.Example.FromString(serialized)
    feature = example.features.feature
    pixels = np.frombuffer(feature[PIXELS].bytes_list.value[0], np.uint8)
    bits = np.frombuffer(feature[BITS].bytes_list.value[0], np.uint8)
    floats = pixels.astype(np.float32) / np.float32(255)
    (grey, _), (binarized, _) = OLD_FEATURES[PIXELS], OLD_FEATURES[BITS]
    feature[grey].float_list.value.extend(floats.tolist())
    feature[binarized].int64_list.value.extend(np.unpackbits(bits).tolist())
    return example.SerializeToString()


def _can_parse(signatures: Signatures, example: bytes) -> bool:
    if _SIGNATURE not in signatures:
        return False
    try:
        signatures[_SIGNATURE](examples=tf.constant([example]))
    except tf.errors.InvalidArgumentError:
        return False
    return True

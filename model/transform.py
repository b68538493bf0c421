"""What Transform does to each example, in training and before every evaluation."""

import math

import tensorflow as tf

from model import fixed_noise
from model.config import IMAGE_SHAPE

IMAGE = "image"  # float32 [28, 28, 1] in [0, 1]
BINARIZED = "binarized"  # int64 [28, 28, 1], 0 or 1: the fixed binarization
LABEL = "label"  # int64 []


def preprocessing_fn(inputs, custom_config):
    """Returns transformed features, from raw 8-bit pixels and a label.

    Training binarizes `image` afresh at each step; every evaluation takes `binarized`,
    which an image's own pixels and `custom_config["seed"]` determine.

    Args:
      inputs: `image`, bytes [B] of 784 pixels in row-major order; `label`, int64 [B].
      custom_config: a dict with `seed`, the evaluation's.

    Raises:
      InvalidArgumentError: an image has another number of bytes.
    """
    size = math.prod(IMAGE_SHAPE)
    raw = tf.reshape(inputs["image"], [-1])
    with tf.control_dependencies(
        [
            tf.debugging.assert_equal(
                tf.strings.length(raw),
                size,
                message=f"every image must have {size} bytes, one a pixel",
            )
        ]
    ):
        pixels = tf.io.decode_raw(raw, tf.uint8, fixed_length=size)
    images = tf.reshape(tf.cast(pixels, tf.float32) / 255.0, [-1, *IMAGE_SHAPE])
    binarized = fixed_noise.binarize(images, custom_config["seed"])
    return {
        IMAGE: images,
        BINARIZED: tf.cast(binarized, tf.int64),
        LABEL: tf.reshape(inputs["label"], [-1]),
    }

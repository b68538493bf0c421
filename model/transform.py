"""Transform's function: what every model reads of each example."""

import tensorflow as tf

from model import fixed_noise
from model.examples import BITS, LABEL, PIXELS, RAW, decode_pixels, pack_bits


def preprocessing_fn(inputs, custom_config):
    """Returns transformed features, from raw 8-bit pixels and a label.

    Training binarizes `pixels` anew at each step; every evaluation takes `bits`, which
    an image's own pixels and `custom_config["seed"]` determine. They are stored because
    a candidate and its baseline may be exported with different seeds, and the gate
    measures both on the same bits.

    Args:
      inputs: `image`, bytes [B] of 784 pixels in row-major order; `label`, int64 [B].
      custom_config: a dict with `seed`, the evaluation's.

    Raises:
      InvalidArgumentError: an image has another number of bytes.
    """
    raw = tf.reshape(inputs[RAW], [-1])
    images = tf.cast(decode_pixels(raw), tf.float32) / 255.0
    bits = fixed_noise.binarize(images, custom_config["seed"])
    return {
        PIXELS: raw,
        BITS: pack_bits(bits),
        LABEL: tf.reshape(inputs[LABEL], [-1]),
    }

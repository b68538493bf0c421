"""The preprocessing function of TFX Transform, which makes the model's features."""

import tensorflow as tf

from model import fixed_noise
from model.examples import BITS, LABEL, PIXELS, RAW, decode_pixels, pack_bits


def preprocessing_fn(inputs, custom_config):
    """Returns the features `pixels`, `bits` and `label` of a batch of raw examples.

    `bits` is a binarization of `pixels` that depends only on the pixels and the seed:
    all evaluations use it. It is stored because the candidate and the baseline may have
    been exported with different seeds, and the gate must measure both on the same bits.
    Training does not use it: it binarizes `pixels` at random in each step.

    Args:
      inputs: `image`, string [B] of 784 bytes in row-major order; `label`, int64 [B].
      custom_config: a dict with `seed`, the seed of the evaluation.

    Raises:
      InvalidArgumentError: an image does not have 784 bytes.
    """
    raw = tf.reshape(inputs[RAW], [-1])
    images = tf.cast(decode_pixels(raw), tf.float32) / 255.0
    bits = fixed_noise.binarize(images, custom_config["seed"])
    return {
        PIXELS: raw,
        BITS: pack_bits(bits),
        LABEL: tf.reshape(inputs[LABEL], [-1]),
    }

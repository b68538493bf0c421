"""Random draws that depend only on an image's pixels and a seed.

The estimate of an image therefore does not depend on its batch or on its position in
the batch, two models get the same noise, and a mean over N images averages N
independent draws.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from model.config import IMAGE_SHAPE

_WORDS = math.prod(IMAGE_SHAPE) // 8  # an image's bytes as 64-bit words


def binarize(images: tf.Tensor, seed: int) -> tf.Tensor:
    """Returns a binarization of each image, drawn from Bernoulli(pixel) per pixel.

    The draws depend only on the image and the seed. A binary image is not changed.

    Args:
      images: float32 [B, 28, 28, 1] in [0, 1].
      seed: another seed gives other draws.

    Returns:
      float32 [B, 28, 28, 1] of 0.0 and 1.0.
    """
    uniform = _uniform(images, f"binarization {seed}", shape=IMAGE_SHAPE)
    return tf.cast(uniform < images, tf.float32)


def normal(
    images: tf.Tensor,
    seed: int,
    *,
    samples: int,
    latent_size: int,
    first: int | tf.Tensor = 0,
) -> tf.Tensor:
    """Returns standard normal draws for each image, float32 [B, K, Z].

    The draws depend only on the image and the seed. Each image has an endless sequence
    of draws: calls for draws 0 to 9 and 10 to 19 return the same as one for 0 to 19.

    Args:
      images: float32 [B, 28, 28, 1] in [0, 1].
      seed: another seed gives other draws.
      samples: K, draws per image.
      latent_size: Z, length of one draw.
      first: index in the sequence of the first draw that is returned, from 0.
    """
    skipped = tf.cast(first, tf.uint64) * np.uint64(latent_size)
    shape = [samples, latent_size]
    uniform = _uniform(images, f"posterior {seed}", shape=shape, skipped=skipped)
    return tf.math.ndtri(uniform)


def _uniform(
    images: tf.Tensor,
    purpose: str,
    *,
    shape: Sequence[int],
    skipped: int | tf.Tensor = 0,
) -> tf.Tensor:
    """Returns uniform draws in (0, 1) for each image, float32 [B, *shape].

    The draws depend only on the image and the purpose, and have 23 random bits each.

    The generator is SplitMix64 in counter mode: draw i of an image is the mixed sum of
    the image's hash and i golden gammas. TensorFlow's own stateless generators take one
    seed per call: one call per image took most of Transform's time.

    Args:
      images: float32 [B, 28, 28, 1] in [0, 1].
      purpose: another text gives other draws.
      shape: shape of the draws of one image.
      skipped: number of draws at the start of each image's sequence to leave out.

    Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
    generators".
    """
    gamma = np.uint64(0x9E3779B97F4A7C15)
    steps = np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * gamma
    start = _hash(images, purpose) + tf.cast(skipped, tf.uint64) * gamma
    z = start[:, tf.newaxis] + steps  # modulo 2**64
    z = _xorshift(z, 30) * np.uint64(0xBF58476D1CE4E5B9)
    z = _xorshift(z, 27) * np.uint64(0x94D049BB133111EB)
    top = tf.bitwise.right_shift(_xorshift(z, 31), np.uint64(64 - 23))
    # The middle of a cell of width 2**-23: exact in float32, and never 0 or 1.
    uniform = (tf.cast(tf.cast(top, tf.int32), tf.float32) + 0.5) * 2.0**-23
    return tf.reshape(uniform, [-1, *shape])


def _xorshift(z: tf.Tensor, bits: int) -> tf.Tensor:
    """Returns z XOR (z >> bits) of 64-bit words, a mixing step of SplitMix64."""
    return tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, np.uint64(bits)))


def _hash(images: tf.Tensor, purpose: str) -> tf.Tensor:
    """Returns a hash of each image's 8-bit pixels, uint64 [B].

    The hash is a dot product of the image's 64-bit words with random odd numbers that
    depend on the purpose, modulo 2**64 (multiply-shift hashing).
    Source: Dietzfelbinger et al. 1997, "A reliable randomized algorithm for the
    closest-pair problem".
    """
    digest = hashlib.shake_256(purpose.encode()).digest(_WORDS * 8)
    keys = np.frombuffer(digest, "<u8") | np.uint64(1)
    pixels = tf.cast(tf.round(images * 255.0), tf.uint8)
    words = tf.bitcast(tf.reshape(pixels, [-1, _WORDS, 8]), tf.uint64)
    return tf.reduce_sum(words * keys, axis=-1)

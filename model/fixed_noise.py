"""Noise that depends on an image's own pixels and a seed, and on nothing else.

So an image's estimate depends neither on its batch nor on its place in it, two models
see the same noise, and a mean over N images averages N independent draws.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from model.config import IMAGE_SHAPE

_WORDS = math.prod(IMAGE_SHAPE) // 8  # an image's bytes as 64-bit words


def binarize(images: tf.Tensor, seed: int) -> tf.Tensor:
    """Returns Bernoulli(pixel) draws fixed by each image: [B, 28, 28, 1] of 0.0 or 1.0.

    An image that is binary already stays as it is.

    Args:
      images: float32 [B, 28, 28, 1] in [0, 1].
      seed: another seed gives other draws.
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
    """Returns standard normal draws fixed by each image: float32 [B, K, Z].

    Each image has an endless sequence of them, the same in whatever blocks it is drawn.

    Args:
      images: float32 [B, 28, 28, 1] in [0, 1].
      seed: another seed gives other draws.
      samples: K, draws per image.
      latent_size: Z, length of one draw.
      first: place in the sequence of the first draw that is returned, from 0.
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
    """Returns draws in (0, 1) with 23 bits each, fixed by each image: [B, *shape].

    The first `skipped` draws of each image are left out.

    SplitMix64 in counter mode: draw i of an image is the mixed sum of the image's hash
    and i golden gammas. Source: Steele, Lea and Flood 2014, "Fast splittable
    pseudorandom number generators". All images at once: TensorFlow's own stateless
    generators take one seed a call, and a call an image took most of Transform's time.
    """
    gamma = np.uint64(0x9E3779B97F4A7C15)
    steps = np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * gamma
    start = _hash(images, purpose) + tf.cast(skipped, tf.uint64) * gamma
    z = start[:, tf.newaxis] + steps  # modulo 2**64
    z = _xorshift(z, 30) * np.uint64(0xBF58476D1CE4E5B9)
    z = _xorshift(z, 27) * np.uint64(0x94D049BB133111EB)
    top = tf.bitwise.right_shift(_xorshift(z, 31), np.uint64(64 - 23))
    # The middle of a cell of 2**-23, exact in float32: neither 0 nor 1.
    uniform = (tf.cast(tf.cast(top, tf.int32), tf.float32) + 0.5) * 2.0**-23
    return tf.reshape(uniform, [-1, *shape])


def _xorshift(z: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(z, tf.bitwise.right_shift(z, np.uint64(bits)))


def _hash(images: tf.Tensor, purpose: str) -> tf.Tensor:
    """Returns a hash of each image's 8-bit pixels, uint64 [B].

    Multiply-shift hashing: a dot product with random odd numbers, modulo 2**64.
    Source: Dietzfelbinger et al. 1997, "A reliable randomized algorithm for the
    closest-pair problem".
    """
    digest = hashlib.shake_256(purpose.encode()).digest(_WORDS * 8)
    keys = np.frombuffer(digest, "<u8") | np.uint64(1)
    pixels = tf.cast(tf.round(images * 255.0), tf.uint8)
    words = tf.bitcast(tf.reshape(pixels, [-1, _WORDS, 8]), tf.uint64)
    return tf.reduce_sum(words * keys, axis=-1)

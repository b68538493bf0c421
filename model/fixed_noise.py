"""Noise that depends on an image's own pixels and a seed, and on nothing else.

So an image's estimate depends neither on its batch nor on its place in it, two models
see the same noise, and a mean over N images averages N independent draws.
"""

import hashlib
import math

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
    uniform = _draws(images, f"binarization {seed}", IMAGE_SHAPE, "uniform")
    return tf.cast(uniform < images, tf.float32)  # uniform is in [0, 1)


def normal(images: tf.Tensor, seed: int, samples: int, latent_size: int) -> tf.Tensor:
    """Returns standard normal draws fixed by each image: float32 [B, K, Z].

    Args:
      images: float32 [B, 28, 28, 1] in [0, 1].
      seed: another seed gives other draws.
      samples: K, draws per image.
      latent_size: Z, length of one draw.
    """
    return _draws(images, f"posterior {seed}", [samples, latent_size], "normal")


def _draws(images: tf.Tensor, purpose: str, shape, distribution: str) -> tf.Tensor:
    sample = getattr(tf.random, f"stateless_{distribution}")
    return tf.map_fn(
        # Philox by name: the default differs between devices.
        lambda seed: sample(shape, seed, alg="philox"),
        _image_seeds(images, purpose),
        fn_output_signature=tf.TensorSpec(shape, tf.float32),
    )


def _image_seeds(images: tf.Tensor, purpose: str) -> tf.Tensor:
    """Returns a 128-bit hash of each image's 8-bit pixels, int64 [B, 2].

    Multiply-shift hashing: a dot product with random odd numbers, modulo 2**64.
    Source: Dietzfelbinger et al. 1997, "A reliable randomized algorithm for the
    closest-pair problem".
    """
    digest = hashlib.shake_256(purpose.encode()).digest(2 * _WORDS * 8)
    keys = np.frombuffer(digest, "<u8").reshape(2, _WORDS) | np.uint64(1)
    pixels = tf.cast(tf.round(images * 255.0), tf.uint8)
    words = tf.bitcast(tf.reshape(pixels, [-1, 1, _WORDS, 8]), tf.uint64)
    return tf.bitcast(tf.reduce_sum(words * keys, axis=-1), tf.int64)

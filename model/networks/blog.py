"""The convolutional networks of the 2019 TFP blog post on VAEs.

Source: https://blog.tensorflow.org/2019/03/variational-autoencoders-with.html
"""

import tensorflow as tf
from tf_keras import layers as tfkl

from model.config import ModelConfig


def encoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    """Returns the encoder's hidden layers, from [B, 28, 28, 1] to [B, 4 Z]."""
    depth = config.base_depth
    return [
        _conv(depth, 5, dtype=dtype, strides=1),
        _conv(depth, 5, dtype=dtype, strides=2),
        _conv(2 * depth, 5, dtype=dtype, strides=1),
        _conv(2 * depth, 5, dtype=dtype, strides=2),  # [B, 7, 7, 2 depth]
        _conv(4 * config.latent_size, 7, dtype=dtype, strides=1, padding="valid"),
        tfkl.Flatten(),
    ]


def decoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    """Returns the decoder's layers, from [B, Z] to the logits [B, 28, 28, 1]."""
    depth = config.base_depth
    return [
        tfkl.Reshape([1, 1, config.latent_size]),
        _transposed(2 * depth, 7, dtype=dtype, padding="valid"),  # [B, 7, 7, 2 depth]
        _transposed(2 * depth, 5, dtype=dtype),
        _transposed(2 * depth, 5, dtype=dtype, strides=2),
        _transposed(depth, 5, dtype=dtype),
        _transposed(depth, 5, dtype=dtype, strides=2),  # [B, 28, 28, depth]
        _transposed(depth, 5, dtype=dtype),
        # The post has Conv2D(1, 5), which is the same with the kernel turned by 180
        # degrees: as many weights from the same distribution. The gradients of a
        # convolution to one channel are slow: a training step with it takes 1.03 times
        # as long with oneDNN and 1.2 times as long without.
        tfkl.Conv2DTranspose(filters=1, kernel_size=5, padding="same"),
    ]


def _conv(
    filters: int, size: int, *, dtype: str, strides: int, padding: str = "same"
) -> tfkl.Layer:
    return tfkl.Conv2D(
        filters, size, strides, padding, activation=_leaky_relu, dtype=dtype
    )


def _transposed(
    filters: int, size: int, *, dtype: str, strides: int = 1, padding: str = "same"
) -> tfkl.Layer:
    return tfkl.Conv2DTranspose(
        filters, size, strides, padding, activation=_leaky_relu, dtype=dtype
    )


def _leaky_relu(x: tf.Tensor) -> tf.Tensor:
    # In float32, because TensorFlow's gradient of leaky ReLU in bfloat16 is not
    # vectorized on CPUs and takes four times as long. A training step takes 0.92 of the
    # time with this cast.
    return tf.cast(tf.nn.leaky_relu(tf.cast(x, tf.float32)), x.dtype)

"""Residual blocks with pre-activation and without batch normalization.

Sources: He et al. 2016, Identity Mappings in Deep Residual Networks; De & Smith 2020,
Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep
Networks (SkipInit: convolutional branches begin at zero); Elfwing et al. 2018,
Sigmoid-Weighted Linear Units for Neural Network Function Approximation.
"""

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as tfk
from tf_keras import layers as tfkl


class Residual(tfkl.Layer):
    """Computes x + scale * branch(x), with a learned scale per channel."""

    def __init__(self, branch: Sequence[tfkl.Layer], *, scale: float, dtype: str):
        super().__init__(dtype=dtype)
        self._branch, self._first = tfk.Sequential(branch), scale

    def build(self, input_shape):
        self._scale = self.add_weight(
            "scale",
            [input_shape[-1]],
            initializer=tfk.initializers.Constant(self._first),
        )
        super().build(input_shape)

    def call(self, x):
        # AutoGraph would take half a minute to rewrite Keras's own code.
        branch = tf.autograph.experimental.do_not_convert(self._branch)
        return x + self._scale * branch(x)


def dense_block(units: int, dtype: str) -> tfkl.Layer:
    """Returns a residual block on [B, units]: normalization, SiLU and a dense layer."""
    branch = [
        tfkl.LayerNormalization(dtype=dtype),
        silu(dtype),
        dense(units, dtype),
    ]
    return Residual(branch, scale=0.5, dtype=dtype)


def dense(units: int, dtype: str) -> tfkl.Layer:
    """Returns a dense layer without an activation."""
    return tfkl.Dense(units, kernel_initializer="he_normal", dtype=dtype)


def silu(dtype: str) -> tfkl.Layer:
    """Returns the activation layer SiLU, x sigmoid(x).

    In these networks the ELBO is one or two nats better than with ReLU.
    """
    return tfkl.Activation("silu", dtype=dtype)


def conv_block(filters: int, dtype: str) -> tfkl.Layer:
    """Returns a residual block on [B, H, W, filters] with two 3 x 3 convolutions.

    A SiLU precedes each convolution. The scale begins at 0, so the block begins as the
    identity.
    """
    branch = [
        silu(dtype),
        conv(filters, 3, dtype=dtype),
        silu(dtype),
        conv(filters, 3, dtype=dtype),
    ]
    return Residual(branch, scale=0.0, dtype=dtype)


def conv(filters: int, size: int, *, dtype: str, strides: int = 1) -> tfkl.Layer:
    """Returns a convolution layer with padding `same` and without an activation."""
    return tfkl.Conv2D(
        filters, size, strides, "same", kernel_initializer="he_normal", dtype=dtype
    )

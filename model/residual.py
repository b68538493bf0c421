"""Small residual networks: most of the work at 7 x 7 and 14 x 14, none at 28 x 28.

Pre-activation blocks whose branches begin at zero, so that no normalization over the
batch is needed. Sources: He et al. 2016, Identity Mappings in Deep Residual Networks;
De & Smith 2020, Batch Normalization Biases Residual Blocks Towards the Identity
Function in Deep Networks (SkipInit); Shi et al. 2016, Real-Time Single Image and Video
Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network; Elfwing et
al. 2018, Sigmoid-Weighted Linear Units for Neural Network Function Approximation.
"""

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as tfk
from tf_keras import layers as tfkl

from model.config import ModelConfig


def encoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    """Returns the hidden layers: [B, 28, 28, 1] -> [B, hidden_units]."""
    depth, units = config.base_depth, config.hidden_units
    return [
        _conv(depth, 4, dtype, strides=2),  # [B, 14, 14, depth]
        _conv_block(depth, dtype),
        silu(dtype),
        _conv(2 * depth, 3, dtype, strides=2),  # [B, 7, 7, 2 depth]
        _conv_block(2 * depth, dtype),
        silu(dtype),
        tfkl.Flatten(dtype=dtype),
        dense(units, dtype),
        dense_block(units, dtype),
        silu(dtype),
    ]


def decoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    """Returns the hidden layers and the logits': [B, Z] -> [B, 28, 28, 1]."""
    depth, units = config.base_depth, config.hidden_units
    return [
        dense(units, dtype),
        dense_block(units, dtype),
        silu(dtype),
        dense(7 * 7 * 2 * depth, dtype),
        tfkl.Reshape([7, 7, 2 * depth], dtype=dtype),
        _conv_block(2 * depth, dtype),
        silu(dtype),
        _conv(4 * depth, 3, dtype),
        SubPixels(dtype=dtype),  # [B, 14, 14, depth]
        _conv_block(depth, dtype),
        silu(dtype),
        _conv(4, 3, dtype="float32"),
        SubPixels(),  # [B, 28, 28, 1]
    ]


class Residual(tfkl.Layer):
    """x + scale * branch(x), with a learned scale per channel."""

    def __init__(self, branch: Sequence[tfkl.Layer], scale: float, dtype: str):
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
        # AutoGraph would rewrite Keras itself, for half a minute.
        branch = tf.autograph.experimental.do_not_convert(self._branch)
        return x + self._scale * branch(x)


class SubPixels(tfkl.Layer):
    """Moves channels into 2 x 2 squares: [B, H, W, 4 C] -> [B, 2 H, 2 W, C]."""

    def call(self, x):
        return tf.nn.depth_to_space(x, 2)


def dense_block(units: int, dtype: str) -> tfkl.Layer:
    """Returns a block of [B, units]: normalization, SiLU and a dense layer."""
    branch = [
        tfkl.LayerNormalization(dtype=dtype),
        silu(dtype),
        dense(units, dtype),
    ]
    return Residual(branch, scale=0.5, dtype=dtype)


def dense(units: int, dtype: str) -> tfkl.Layer:
    """Returns a dense layer that nothing follows by itself."""
    return tfkl.Dense(units, kernel_initializer="he_normal", dtype=dtype)


def silu(dtype: str) -> tfkl.Layer:
    """Returns x sigmoid(x); in these networks a nat or two better than ReLU."""
    return tfkl.Activation("silu", dtype=dtype)


def _conv_block(filters: int, dtype: str) -> tfkl.Layer:
    branch = [
        silu(dtype),
        _conv(filters, 3, dtype),
        silu(dtype),
        _conv(filters, 3, dtype),
    ]
    return Residual(branch, scale=0.0, dtype=dtype)


def _conv(filters: int, size: int, dtype: str, strides: int = 1) -> tfkl.Layer:
    return tfkl.Conv2D(
        filters, size, strides, "same", kernel_initializer="he_normal", dtype=dtype
    )

"""Small residual convolutional networks, which work at 7 x 7 and 14 x 14 pixels only.

Source of the decoder's upsampling: Shi et al. 2016, Real-Time Single Image and Video
Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network.
"""

import tensorflow as tf
from tf_keras import layers as tfkl

from model.config import ModelConfig
from model.networks.residual_blocks import conv, conv_block, dense, dense_block, silu


def encoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    """Returns the encoder's hidden layers, from [B, 28, 28, 1] to [B, hidden_units]."""
    depth, units = config.base_depth, config.hidden_units
    return [
        conv(depth, 4, dtype=dtype, strides=2),  # [B, 14, 14, depth]
        conv_block(depth, dtype),
        silu(dtype),
        conv(2 * depth, 3, dtype=dtype, strides=2),  # [B, 7, 7, 2 depth]
        conv_block(2 * depth, dtype),
        silu(dtype),
        tfkl.Flatten(dtype=dtype),
        dense(units, dtype),
        dense_block(units, dtype),
        silu(dtype),
    ]


def decoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    """Returns the decoder's layers, from [B, Z] to the logits [B, 28, 28, 1]."""
    depth, units = config.base_depth, config.hidden_units
    return [
        dense(units, dtype),
        dense_block(units, dtype),
        silu(dtype),
        dense(7 * 7 * 2 * depth, dtype),
        tfkl.Reshape([7, 7, 2 * depth], dtype=dtype),
        conv_block(2 * depth, dtype),
        silu(dtype),
        conv(4 * depth, 3, dtype=dtype),
        SubPixels(dtype=dtype),  # [B, 14, 14, depth]
        conv_block(depth, dtype),
        silu(dtype),
        conv(4, 3, dtype="float32"),
        SubPixels(),  # [B, 28, 28, 1]
    ]


class SubPixels(tfkl.Layer):
    """Doubles height and width by moving channels: [B, H, W, 4 C] -> [B, 2 H, 2 W, C].

    The four values of each channel group become a square of 2 x 2 pixels.
    """

    def call(self, x):
        return tf.nn.depth_to_space(x, 2)

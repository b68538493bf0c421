"""The networks of the 2019 TFP post on VAEs: convolutions, and transposed ones.

Two layers compute the post's functions in ways that train faster: see there.

Source: https://blog.tensorflow.org/2019/03/variational-autoencoders-with.html
"""

import tensorflow as tf
from tf_keras import layers as tfkl

from model.config import ModelConfig


def encoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    """Returns the hidden layers: [B, 28, 28, 1] -> [B, 4 Z]."""
    depth = config.base_depth
    return [
        _conv(depth, 5, dtype, strides=1),
        _conv(depth, 5, dtype, strides=2),
        _conv(2 * depth, 5, dtype, strides=1),
        _conv(2 * depth, 5, dtype, strides=2),  # [B, 7, 7, 2 depth]
        WholeImageConv2D(
            4 * config.latent_size, 7, activation=tf.nn.leaky_relu, dtype=dtype
        ),
        tfkl.Flatten(),
    ]


def decoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    """Returns the hidden layers and the logits': [B, Z] -> [B, 28, 28, 1]."""
    depth = config.base_depth
    return [
        tfkl.Reshape([1, 1, config.latent_size]),
        _transposed(2 * depth, 7, dtype, padding="valid"),  # [B, 7, 7, 2 depth]
        _transposed(2 * depth, 5, dtype),
        _transposed(2 * depth, 5, dtype, strides=2),
        _transposed(depth, 5, dtype),
        _transposed(depth, 5, dtype, strides=2),  # [B, 28, 28, depth]
        _transposed(depth, 5, dtype),
        # The post's Conv2D(1, 5) with the kernel turned by 180 degrees, as many weights
        # from the same distribution: the gradients of a convolution to one channel take
        # several times as long.
        tfkl.Conv2DTranspose(filters=1, kernel_size=5, padding="same"),
    ]


class WholeImageConv2D(tfkl.Conv2D):
    """A convolution whose kernel covers the image: [B, H, W, C] -> [B, 1, 1, filters].

    As a product of two matrices it takes a fifth of the time, and Grappler does not
    fail to fuse it.
    """

    def convolution_op(self, inputs, kernel):
        columns = tf.reshape(kernel, [-1, self.filters])
        rows = tf.reshape(inputs, [-1, columns.shape[0]])
        return tf.reshape(rows @ columns, [-1, 1, 1, self.filters])


def _conv(filters: int, size: int, dtype: str, strides: int) -> tfkl.Layer:
    return tfkl.Conv2D(
        filters, size, strides, "same", activation=tf.nn.leaky_relu, dtype=dtype
    )


def _transposed(
    filters: int, size: int, dtype: str, strides: int = 1, padding: str = "same"
) -> tfkl.Layer:
    return tfkl.Conv2DTranspose(
        filters, size, strides, padding, activation=tf.nn.leaky_relu, dtype=dtype
    )

"""Dense residual networks, the fastest of the three kinds, for laptops and the demo."""

import math

from tf_keras import layers as tfkl

from model.config import IMAGE_SHAPE, ModelConfig
from model.networks.residual_blocks import dense, dense_block, silu


def encoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    """Returns the encoder's hidden layers, from [B, 28, 28, 1] to [B, hidden_units]."""
    return [tfkl.Flatten(), *_layers(config.hidden_units, dtype)]


def decoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    """Returns the decoder's layers, from [B, Z] to the logits [B, 784]."""
    pixels = math.prod(IMAGE_SHAPE)
    return [*_layers(config.hidden_units, dtype), tfkl.Dense(pixels)]


def _layers(units: int, dtype: str) -> list[tfkl.Layer]:
    return [
        dense(units, dtype),
        dense_block(units, dtype),
        tfkl.LayerNormalization(dtype=dtype),
        silu(dtype),
    ]

"""Dense residual networks: the fastest, for the laptop and the demo."""

import math

from tf_keras import layers as tfkl

from model.config import IMAGE_SHAPE, ModelConfig
from model.networks.residual_blocks import dense, dense_block, silu


def encoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    """Returns the hidden layers: [B, 28, 28, 1] -> [B, hidden_units]."""
    return [tfkl.Flatten(), *_layers(config.hidden_units, dtype)]


def decoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    """Returns the hidden layers and the logits': [B, Z] -> [B, 784]."""
    pixels = math.prod(IMAGE_SHAPE)
    return [*_layers(config.hidden_units, dtype), tfkl.Dense(pixels)]


def _layers(units: int, dtype: str) -> list[tfkl.Layer]:
    return [
        dense(units, dtype),
        dense_block(units, dtype),
        tfkl.LayerNormalization(dtype=dtype),
        silu(dtype),
    ]

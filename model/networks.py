"""Encoder and decoder networks, each ending in a TFP layer."""

import math

import tf_keras as tfk
from tf_keras import layers as tfkl

from model import blog, likelihood, residual
from model.config import IMAGE_SHAPE, ModelConfig
from model.posterior import Posterior


def encoder(config: ModelConfig, posterior: Posterior, dtype: str) -> tfk.Sequential:
    """Returns the network of q(z|x): images [B, 28, 28, 1] -> batch [B], event [Z].

    Args:
      config: says which.
      posterior: what the network ends in.
      dtype: Keras's dtype policy of its hidden layers; the rest is float32.
    """
    layers = {
        "blog": blog.encoder,
        "dense": _dense_encoder,
        "conv_residual": residual.encoder,
    }[config.network]
    return tfk.Sequential(
        [
            tfkl.InputLayer(input_shape=IMAGE_SHAPE),
            tfkl.Rescaling(scale=1.0, offset=-0.5),
            *layers(config, dtype),
            tfkl.Dense(posterior.params_size),
            posterior.layer(),
        ],
        name="encoder",
    )


def decoder(config: ModelConfig, dtype: str) -> tfk.Sequential:
    """Returns the network of p(x|z): z [B, Z] -> batch [B], event [28, 28, 1].

    Args:
      config: says which.
      dtype: Keras's dtype policy of its hidden layers; the rest is float32.
    """
    layers = {
        "blog": blog.decoder,
        "dense": _dense_decoder,
        "conv_residual": residual.decoder,
    }[config.network]
    return tfk.Sequential(
        [
            tfkl.InputLayer(input_shape=[config.latent_size]),
            *layers(config, dtype),
            tfkl.Flatten(),
            likelihood.layer(config),
        ],
        name="decoder",
    )


def _dense_encoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    return [tfkl.Flatten(), *_dense_layers(config.hidden_units, dtype)]


def _dense_decoder(config: ModelConfig, dtype: str) -> list[tfkl.Layer]:
    pixels = math.prod(IMAGE_SHAPE)
    return [*_dense_layers(config.hidden_units, dtype), tfkl.Dense(pixels)]


def _dense_layers(units: int, dtype: str) -> list[tfkl.Layer]:
    return [
        residual.dense(units, dtype),
        residual.dense_block(units, dtype),
        tfkl.LayerNormalization(dtype=dtype),
        residual.silu(dtype),
    ]

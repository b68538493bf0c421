"""Encoder and decoder networks, each ending in a TFP layer."""

import math

import tensorflow as tf
import tf_keras as tfk
from tensorflow_probability import layers as tfpl
from tf_keras import layers as tfkl

from model.config import IMAGE_SHAPE, ModelConfig


def encoder(config: ModelConfig) -> tfk.Sequential:
    """Returns the network of q(z|x): images [B, 28, 28, 1] -> batch [B], event [Z]."""
    layers = _blog_encoder if config.network == "blog" else _dense_encoder
    return tfk.Sequential(
        [
            tfkl.InputLayer(input_shape=IMAGE_SHAPE),
            tfkl.Rescaling(scale=1.0, offset=-0.5),
            *layers(config),
            tfkl.Dense(tfpl.MultivariateNormalTriL.params_size(config.latent_size)),
            # No KLDivergenceRegularizer: on a distribution layer its KL enters the
            # loss twice (tensorflow/probability#1215). `vae.elbo` writes it out.
            tfpl.MultivariateNormalTriL(config.latent_size),
        ],
        name="encoder",
    )


def decoder(config: ModelConfig) -> tfk.Sequential:
    """Returns the network of p(x|z): z [B, Z] -> batch [B], event [28, 28, 1]."""
    layers = _blog_decoder if config.network == "blog" else _dense_decoder
    return tfk.Sequential(
        [
            tfkl.InputLayer(input_shape=[config.latent_size]),
            *layers(config),
            tfkl.Flatten(),
            tfpl.IndependentBernoulli(IMAGE_SHAPE),
        ],
        name="decoder",
    )


def _blog_encoder(config: ModelConfig) -> list[tfkl.Layer]:
    depth = config.base_depth
    return [
        _conv(depth, 5, strides=1),
        _conv(depth, 5, strides=2),
        _conv(2 * depth, 5, strides=1),
        _conv(2 * depth, 5, strides=2),  # [B, 7, 7, 2 depth]
        _conv(4 * config.latent_size, 7, strides=1, padding="valid"),
        tfkl.Flatten(),
    ]


def _blog_decoder(config: ModelConfig) -> list[tfkl.Layer]:
    depth = config.base_depth
    return [
        tfkl.Reshape([1, 1, config.latent_size]),
        _transposed(2 * depth, 7, strides=1, padding="valid"),  # [B, 7, 7, 2 depth]
        _transposed(2 * depth, 5, strides=1),
        _transposed(2 * depth, 5, strides=2),
        _transposed(depth, 5, strides=1),
        _transposed(depth, 5, strides=2),  # [B, 28, 28, depth]
        _transposed(depth, 5, strides=1),
        tfkl.Conv2D(filters=1, kernel_size=5, padding="same"),
    ]


def _dense_encoder(config: ModelConfig) -> list[tfkl.Layer]:
    return [tfkl.Flatten(), _dense(config.hidden_units), _dense(config.hidden_units)]


def _dense_decoder(config: ModelConfig) -> list[tfkl.Layer]:
    return [
        _dense(config.hidden_units),
        _dense(config.hidden_units),
        tfkl.Dense(math.prod(IMAGE_SHAPE)),
    ]


def _dense(units: int) -> tfkl.Layer:
    return tfkl.Dense(units, activation=tf.nn.leaky_relu)


def _conv(filters: int, size: int, strides: int, padding: str = "same") -> tfkl.Layer:
    return tfkl.Conv2D(
        filters, size, strides=strides, padding=padding, activation=tf.nn.leaky_relu
    )


def _transposed(
    filters: int, size: int, strides: int, padding: str = "same"
) -> tfkl.Layer:
    return tfkl.Conv2DTranspose(
        filters, size, strides=strides, padding=padding, activation=tf.nn.leaky_relu
    )

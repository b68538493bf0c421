"""Encoder and decoder networks, each ending in a TFP layer."""

import tf_keras as tfk
from tf_keras import layers as tfkl

from model.config import IMAGE_SHAPE, ModelConfig
from model.distributions import likelihood
from model.distributions.posterior import Posterior
from model.networks import blog, conv_residual, dense

_HIDDEN = {"blog": blog, "dense": dense, "conv_residual": conv_residual}


def encoder(config: ModelConfig, posterior: Posterior, *, dtype: str) -> tfk.Sequential:
    """Returns the network of q(z|x): images [B, 28, 28, 1] -> batch [B], event [Z].

    Args:
      config: names the network.
      posterior: what the network ends in.
      dtype: Keras's dtype policy of the hidden layers; the other layers are float32.
    """
    return tfk.Sequential(
        [
            tfkl.InputLayer(input_shape=IMAGE_SHAPE),
            tfkl.Rescaling(scale=1.0, offset=-0.5),
            *_HIDDEN[config.network].encoder(config, dtype),
            tfkl.Dense(posterior.params_size),
            posterior.layer(),
        ],
        name="encoder",
    )


def decoder(config: ModelConfig, dtype: str) -> tfk.Sequential:
    """Returns the network of p(x|z): z [B, Z] -> batch [B], event [28, 28, 1].

    Args:
      config: names the network.
      dtype: Keras's dtype policy of the hidden layers; the other layers are float32.
    """
    return tfk.Sequential(
        [
            tfkl.InputLayer(input_shape=[config.latent_size]),
            *_HIDDEN[config.network].decoder(config, dtype),
            tfkl.Flatten(),
            likelihood.layer(config),
        ],
        name="decoder",
    )

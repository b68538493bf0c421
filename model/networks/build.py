"""The encoder and decoder networks, each with a TFP distribution layer at its end."""

import tf_keras as tfk
from tf_keras import layers as tfkl

from model.config import IMAGE_SHAPE, ModelConfig
from model.distributions import likelihood
from model.distributions.posterior import Posterior
from model.networks import blog, conv_residual, dense

_HIDDEN = {"blog": blog, "dense": dense, "conv_residual": conv_residual}


def encoder(config: ModelConfig, posterior: Posterior, *, dtype: str) -> tfk.Sequential:
    """Returns the network from images [B, 28, 28, 1] to q(z|x): batch [B], event [Z].

    Args:
      config: the name and the sizes of the network.
      posterior: makes the last layer.
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
    """Returns the network from z [B, Z] to p(x|z): batch [B], event [28, 28, 1].

    Args:
      config: the name and the sizes of the network.
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

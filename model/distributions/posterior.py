"""The posterior q(z|x): a TFP distribution made from the encoder's last layer.

Each kind of posterior is standard normal noise under a bijector, so that one function
draws from all kinds.
"""

from typing import NamedTuple

import tensorflow as tf
import tf_keras as tfk
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd
from tensorflow_probability import layers as tfpl

from model.config import ModelConfig

_CONTEXT = 64  # iaf: length of the encoder's input to each transformation
_OPEN = 1.5  # iaf: bias of the gates; they begin near 1, where z changes little


class Draws(NamedTuple):
    """Draws of z from a posterior, with their log-densities."""

    z: tf.Tensor  # [K, B, Z]
    log_prob: tf.Tensor  # [K, B]: log q(z|x), nats


class Posterior:
    """Makes q(z|x), batch [B] and event [Z], from `params_size` numbers per image.

    The kind of posterior is a setting:

    - diagonal: Kingma & Welling 2014, Auto-Encoding Variational Bayes.
    - full: a normal with any covariance, by its Cholesky factor; Kingma & Welling 2019,
      An Introduction to Variational Autoencoders, section 2.5.1.
    - iaf: inverse autoregressive flow; Kingma et al. 2016, Improving Variational
      Inference with Inverse Autoregressive Flow, algorithm 1.
    """

    def __init__(self, config: ModelConfig):
        self._kind, self._size = config.posterior, config.latent_size
        self._networks = []
        if self._kind == "iaf":
            self._networks = [
                tfb.AutoregressiveNetwork(
                    params=2,
                    event_shape=[self._size],
                    conditional=True,
                    conditional_event_shape=[_CONTEXT],
                    hidden_units=[config.flow_units],
                    activation="relu",
                )
                for _ in range(config.posterior_layers)
            ]
            for network in self._networks:
                network.build([None, self._size])  # a call must not make variables

    @property
    def params_size(self) -> int:
        """Returns the number of parameters of one image's posterior."""
        if self._kind == "full":
            return tfpl.MultivariateNormalTriL.params_size(self._size)
        return 2 * self._size + (_CONTEXT if self._kind == "iaf" else 0)

    def layer(self) -> tfk.layers.Layer:
        """Returns the encoder's last layer, from [B, params_size] to q(z|x)."""
        # No KLDivergenceRegularizer: on a distribution layer its KL enters the loss
        # twice (tensorflow/probability#1215). `vae.elbo_terms` computes the KL.
        if self._kind == "full":
            return tfpl.MultivariateNormalTriL(self._size, _get_loc)
        if self._kind == "diagonal":
            return tfpl.DistributionLambda(self._distribution, _get_loc)
        layer = tfpl.DistributionLambda(self._distribution)
        layer.networks = self._networks  # so that Keras finds their variables
        return layer

    def _distribution(self, params: tf.Tensor) -> tfd.Distribution:
        loc, scale, context = tf.split(params, [self._size, self._size, -1], axis=-1)
        normal = tfd.MultivariateNormalDiag(loc, tf.nn.softplus(scale) + 1e-5)
        if self._kind == "diagonal":
            return normal
        flow = [self._transformation(network, context) for network in self._networks]
        return tfd.TransformedDistribution(
            normal.distribution, tfb.Chain([*flow, normal.bijector])
        )

    def _transformation(self, network, context: tf.Tensor) -> tfb.Bijector:
        """Returns a bijector: one IAF transformation, then a reversal of z's order.

        Args:
          network: autoregressive network that gives shift and gate for each latent.
          context: [B, 64], the encoder's output for the network.
        """

        def make_update(z):
            # Both must have the same rank: Keras's Add would else broadcast along the
            # second axis.
            rows = context[tf.newaxis] if len(z.shape) > len(context.shape) else context
            shift, gate = tf.unstack(network(z, conditional_input=rows), axis=-1)
            gate = tf.sigmoid(gate + _OPEN)
            update = tfb.Chain([tfb.Shift((1.0 - gate) * shift), tfb.Scale(gate)])
            # A masked autoregressive flow (MAF) computes noise from data in parallel,
            # and needs the inverse of this update. An IAF is an inverted MAF.
            return tfb.Invert(update)

        iaf = tfb.Invert(tfb.MaskedAutoregressiveFlow(bijector_fn=make_update))
        order = list(reversed(range(self._size)))
        return tfb.Chain([tfb.Permute(order), iaf])


def _get_loc(posterior: tfd.Distribution) -> tf.Tensor:
    """Returns the mean of a normal q(z|x), [B, Z].

    A layer makes a tensor of its distribution in each call. TFP's default, a sample,
    takes most of the time in which the encoder's graph is built, and nothing reads it.
    """
    return posterior.loc


def draw(posterior: tfd.Distribution, noise: tf.Tensor) -> Draws:
    """Returns draws of z that a posterior makes from given standard normal noise.

    Args:
      posterior: q(z|x) from `Posterior`, with batch [B] and event [Z].
      noise: float32 [K, B, Z], standard normal.
    """
    z = posterior.bijector.forward(noise)
    before = posterior.distribution.log_prob(noise)
    change = posterior.bijector.forward_log_det_jacobian(noise, event_ndims=1)
    return Draws(z, before - change)


def draw_at_zero_noise(posterior: tfd.Distribution) -> tf.Tensor:
    """Returns the z, [B, Z], that a posterior makes from zero noise.

    It is the mean of a normal posterior, and near the mean of an IAF.
    """
    shape = tf.concat(
        [posterior.batch_shape_tensor(), posterior.event_shape_tensor()], axis=0
    )
    return posterior.bijector.forward(tf.zeros(shape))

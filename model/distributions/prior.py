"""The prior p(z): a TFP distribution, fixed or learned with the networks."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras as tfk
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd
from tf_keras import layers as tfkl

from model.config import IMAGE_SHAPE, ModelConfig


class Prior(tfkl.Layer):
    """Makes p(z), batch [] and event [Z]; a layer that holds the prior's weights.

    The kind of prior is a setting:
    - standard: N(0, I); Kingma & Welling 2014, Auto-Encoding Variational Bayes.
    - mixture: a mixture of diagonal normals with learned weights; Dilokthanakul et al.
      2016, Deep Unsupervised Clustering with Gaussian Mixture Variational Autoencoders.
    - vampprior: the mixture of the posteriors of learned pseudo-images; Tomczak &
      Welling 2018, VAE with a VampPrior, eq. 9.
    - realnvp: N(0, I) under affine coupling layers; Dinh et al. 2017, Density
      Estimation using Real NVP, and Chen et al. 2017, Variational Lossy Autoencoder,
      for such a flow as a prior.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(name="prior")
        self._kind, self._size = config.prior, config.latent_size
        self._networks = []
        count = config.prior_components
        if self._kind == "mixture":
            spread = tfk.initializers.RandomNormal(stddev=1.0)
            self._logits = self.add_weight("logits", [count], initializer="zeros")
            self._loc = self.add_weight("loc", [count, self._size], initializer=spread)
            self._scale = self.add_weight(
                "scale", [count, self._size], initializer="ones"
            )
        elif self._kind == "vampprior":
            # Dark grey noise, because most pixels of an image are black.
            noise = tfk.initializers.RandomNormal(mean=-2.0, stddev=1.0)
            self._pseudo_images = self.add_weight(
                "pseudo_images", [count, *IMAGE_SHAPE], initializer=noise
            )
        elif self._kind == "realnvp":
            self._networks = [
                self._coupling_network(config.flow_units)
                for _ in range(config.prior_layers)
            ]

    def distribution(
        self, encode: Callable[[tf.Tensor], tfd.Distribution]
    ) -> tfd.Distribution:
        """Returns p(z), batch [] and event [Z].

        Args:
          encode: returns q(z|x) of images; only the prior vampprior calls it.
        """
        if self._kind == "mixture":
            components = tfd.MultivariateNormalDiag(
                self._loc, tf.nn.softplus(self._scale) + 1e-5
            )
            weights = tfd.Categorical(logits=self._logits)
            return tfd.MixtureSameFamily(weights, components)
        if self._kind == "vampprior":
            posteriors = encode(tf.sigmoid(self._pseudo_images))  # batch [components]
            weights = tfd.Categorical(logits=tf.zeros(self._pseudo_images.shape[0]))
            return tfd.MixtureSameFamily(weights, posteriors)
        # Not Independent(Normal), with which TFP has no KL in closed form.
        standard = tfd.MultivariateNormalDiag(
            loc=tf.zeros(self._size), scale_diag=tf.ones(self._size)
        )
        if self._kind == "standard":
            return standard
        flow = [
            # In turns, the first or the last half of z is unchanged and determines the
            # shift and scale of the rest.
            tfb.RealNVP(num_masked=half, bijector_fn=_affine(network))
            for network, half in zip(self._networks, self._halves())
        ]
        return tfd.TransformedDistribution(standard, tfb.Chain(flow))

    def _halves(self) -> list[int]:
        """Returns RealNVP's `num_masked` of each layer: half of Z, + and - in turns."""
        half = self._size // 2
        return [(-1) ** layer * half for layer in range(len(self._networks))]

    def _coupling_network(self, units: int) -> tfk.Sequential:
        half = self._size // 2
        return tfk.Sequential(
            [
                tfkl.InputLayer(input_shape=[half]),
                tfkl.Dense(units, activation="relu"),
                tfkl.Dense(units, activation="relu"),
                # Zeros, so that the flow begins as the identity.
                tfkl.Dense(2 * (self._size - half), kernel_initializer="zeros"),
            ]
        )


def _affine(network: tfk.Sequential):
    """Returns RealNVP's `bijector_fn`: a shift and scale that the network computes."""

    def bijector(masked, size):
        # As a matrix: with three axes, Keras would drop a last axis of length 1.
        rows = tf.reshape(masked, [-1, masked.shape[-1]])
        shape = tf.concat([tf.shape(masked)[:-1], [2 * size]], axis=0)
        shift, log_scale = tf.split(tf.reshape(network(rows), shape), 2, axis=-1)
        # Scales from e^-2 to e^2, so that no training step makes the flow diverge.
        log_scale = 2.0 * tf.tanh(log_scale / 2.0)
        return tfb.Chain([tfb.Shift(shift), tfb.Scale(log_scale=log_scale)])

    return bijector

"""The prior p(z): a TFP distribution, fixed or learned with the rest."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras as tfk
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd
from tf_keras import layers as tfkl

from model.config import IMAGE_SHAPE, ModelConfig


class Prior(tfkl.Layer):
    """Makes p(z), batch [] and event [Z].

    - standard: N(0, I); Kingma & Welling 2014, Auto-Encoding Variational Bayes.
    - mixture: of diagonal normals with learned weights; Dilokthanakul et al. 2016, Deep
      Unsupervised Clustering with Gaussian Mixture Variational Autoencoders.
    - vampprior: of the posteriors of learned pseudo-images; Tomczak & Welling 2018, VAE
      with a VampPrior, eq. 9.
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
            # Grey noise about black, as most of an image's pixels are.
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
        """Returns p(z).

        Args:
          encode: gives q(z|x) for images; vampprior asks it.
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
        # A diagonal rather than Independent(Normal): its KL has a closed form.
        standard = tfd.MultivariateNormalDiag(
            loc=tf.zeros(self._size), scale_diag=tf.ones(self._size)
        )
        if self._kind == "standard":
            return standard
        flow = [
            # By turns the first and the last half stay, and decide what the rest does.
            tfb.RealNVP(num_masked=half, bijector_fn=_affine(network))
            for network, half in zip(self._networks, self._halves())
        ]
        return tfd.TransformedDistribution(standard, tfb.Chain(flow))

    def _halves(self) -> list[int]:
        half = self._size // 2
        return [(-1) ** layer * half for layer in range(len(self._networks))]

    def _coupling_network(self, units: int) -> tfk.Sequential:
        half = self._size // 2
        return tfk.Sequential(
            [
                tfkl.InputLayer(input_shape=[half]),
                tfkl.Dense(units, activation="relu"),
                tfkl.Dense(units, activation="relu"),
                # Zeros: the flow begins as the identity.
                tfkl.Dense(2 * (self._size - half), kernel_initializer="zeros"),
            ]
        )


def _affine(network: tfk.Sequential):
    def bijector(masked, size):
        # As rows: of three axes Keras would drop a last one of length 1.
        rows = tf.reshape(masked, [-1, masked.shape[-1]])
        shape = tf.concat([tf.shape(masked)[:-1], [2 * size]], axis=0)
        shift, log_scale = tf.split(tf.reshape(network(rows), shape), 2, axis=-1)
        # Scales within e^2 of 1: no single step can blow the flow up.
        log_scale = 2.0 * tf.tanh(log_scale / 2.0)
        return tfb.Chain([tfb.Shift(shift), tfb.Scale(log_scale=log_scale)])

    return bijector

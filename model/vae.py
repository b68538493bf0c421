"""The VAE of TFP layers and its ELBO, for training, evaluation and serving."""

from typing import NamedTuple

import tensorflow as tf
import tf_keras as tfk
from tensorflow_probability import distributions as tfd

from model.config import ModelConfig
from model.distributions.posterior import Posterior, draw
from model.distributions.prior import Prior
from model.networks import build


class ElboTerms(NamedTuple):
    """The two terms of the ELBO for each image of a batch, in nats."""

    reconstruction: tf.Tensor  # [B]: E_q[log p(x|z)], estimated from the samples
    kl: tf.Tensor  # [B]: KL(q(z|x) || p(z)), in closed form or from the samples

    def elbo(self) -> tf.Tensor:
        """Returns the ELBO, reconstruction - KL, of each image: [B], nats."""
        return self.reconstruction - self.kl


class VAE(tfk.Model):
    """A variational autoencoder whose methods return TFP distributions.

    `vae(images)` returns p(x|z) at one z drawn from q(z|x): a `tfd.Distribution` with
    batch [B] and event [28, 28, 1], as in the examples of TFP's layers.

    Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes.
    """

    def __init__(self, config: ModelConfig, dtype: str = "float32"):
        """Builds the encoder, the decoder and the prior.

        Args:
          config: the networks and distributions to build.
          dtype: Keras's dtype policy of the networks' hidden layers, `float32` or
            `mixed_bfloat16`; weights and distributions are float32 with both.
        """
        super().__init__(name="vae")
        self.config = config
        self._posterior = Posterior(config)
        self._prior = Prior(config)
        self.encoder = build.encoder(config, self._posterior, dtype=dtype)
        self.decoder = build.decoder(config, dtype)

    def call(self, images):
        return self.decode(self.encode(images).sample())

    @property
    def prior(self) -> tfd.Distribution:
        """Returns the prior p(z), batch [] and event [Z]."""
        return self._prior.distribution(self.encode)

    def encode(self, images) -> tfd.Distribution:
        """Returns q(z|x), batch [B] and event [Z], of images [B, 28, 28, 1]."""
        return self.encoder(images)

    def decode(self, z) -> tfd.Distribution:
        """Returns p(x|z), batch [B] and event [28, 28, 1], at z [B, Z]."""
        return self.decoder(z)

    def elbo_terms(self, images, noise) -> ElboTerms:
        """Returns the two terms of each image's ELBO, estimated from the given noise.

        A normal posterior and the standard prior have a KL in closed form. For all
        other pairs the KL is the mean of log q(z|x) - log p(z) over the samples.

        Args:
          images: float32 [B, 28, 28, 1], of 0 and 1 for a Bernoulli likelihood, in
            [0, 1] for a continuous one.
          noise: float32 [B, K, Z], K standard normal draws per image.

        Source: Kingma & Welling 2014, eq. 3, and eq. 2 where the KL is sampled.
        """
        posterior = self.encode(images)  # q(z|x): batch [B], event [Z]
        draws = draw(posterior, tf.transpose(noise, [1, 0, 2]))
        prior = self.prior  # p(z)
        if self.config.prior == "standard" and self.config.posterior != "iaf":
            kl = tfd.kl_divergence(posterior, prior)
        else:
            kl = tf.reduce_mean(draws.log_prob - prior.log_prob(draws.z), axis=0)
        log_likelihood = self._log_likelihood(images, draws.z)
        return ElboTerms(tf.reduce_mean(log_likelihood, axis=0), kl)

    def log_weights(self, images, noise) -> tf.Tensor:
        """Returns log p(x|z) + log p(z) - log q(z|x) of each draw of z: [B, K], nats.

        The mean over the draws estimates the ELBO. The logarithm of the mean of the
        exponentials estimates the importance-weighted bound.

        Args:
          images: float32 [B, 28, 28, 1], as for `elbo_terms`.
          noise: float32 [B, K, Z], K standard normal draws per image.

        Source: Burda et al. 2016, Importance Weighted Autoencoders, eq. 8.
        """
        draws = draw(self.encode(images), tf.transpose(noise, [1, 0, 2]))
        log_joint = self._log_likelihood(images, draws.z) + self.prior.log_prob(draws.z)
        return tf.transpose(log_joint - draws.log_prob)

    def compute_loss(
        self, terms: ElboTerms, kl_weight: float | tf.Tensor = 1.0
    ) -> tf.Tensor:
        """Returns the training loss of each image: [B], nats.

        The loss is the negative ELBO with the KL multiplied by beta and by `kl_weight`
        and not below the free bits. With beta 1, weight 1 and no free bits it is the
        negative ELBO.

        Args:
          terms: the terms of the ELBO, [B] each.
          kl_weight: factor of the KL, below 1 during the KL's warm-up.

        Sources: Higgins et al. 2017, beta-VAE (beta); Bowman et al. 2016, Generating
        Sentences from a Continuous Space (warm-up); Kingma et al. 2016, Improving
        Variational Inference with Inverse Autoregressive Flow, eq. 15 (free bits). Here
        all latents form one group, and the bound is applied per image, so that replicas
        do not have to exchange means.
        """
        kl = tf.maximum(terms.kl, self.config.free_bits)
        return kl_weight * self.config.beta * kl - terms.reconstruction

    def _log_likelihood(self, images, z) -> tf.Tensor:
        """Returns log p(x|z), [K, B], nats, of images [B, 28, 28, 1] at z [K, B, Z]."""
        samples, batch = tf.unstack(tf.shape(z)[:2])
        flat = tf.reshape(z, [-1, self.config.latent_size])
        likelihood = self.decode(flat)  # batch [K B]
        log_prob = likelihood.log_prob(tf.tile(images, [samples, 1, 1, 1]))
        return tf.reshape(log_prob, [samples, batch])

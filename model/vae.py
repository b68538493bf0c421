"""The VAE of TFP layers, and its ELBO: written here once, used everywhere."""

from typing import NamedTuple

import tensorflow as tf
import tf_keras as tfk
from tensorflow_probability import distributions as tfd

from model.config import ModelConfig
from model.distributions.posterior import Posterior, draw
from model.distributions.prior import Prior
from model.networks import build


class ElboTerms(NamedTuple):
    """The ELBO's two terms, per example, in nats."""

    reconstruction: tf.Tensor  # E_q[log p(x|z)], estimated from the samples; [B]
    kl: tf.Tensor  # KL(q(z|x) || p(z)): in closed form, or from the samples; [B]

    def elbo(self) -> tf.Tensor:
        """Returns reconstruction - KL, [B], nats."""
        return self.reconstruction - self.kl


class VAE(tfk.Model):
    """A variational autoencoder whose calls give distributions.

    `vae(images)` is p(x|z) at one z drawn from q(z|x): a `tfd.Distribution` with batch
    [B] and event [28, 28, 1], as in the TFP layers' own examples.

    Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes.
    """

    def __init__(self, config: ModelConfig, dtype: str = "float32"):
        """Builds the networks.

        Args:
          config: what the VAE is made of.
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
        return self.decoder(self.encoder(images))

    @property
    def prior(self) -> tfd.Distribution:
        """p(z): batch [], event [Z]."""
        return self._prior.distribution(self.encode)

    def encode(self, images) -> tfd.Distribution:
        """Returns q(z|x): images [B, 28, 28, 1] -> batch [B], event [Z]."""
        return self.encoder(images)

    def decode(self, z) -> tfd.Distribution:
        """Returns p(x|z): z [B, Z] -> batch [B], event [28, 28, 1]."""
        return self.decoder(z)

    def elbo_terms(self, images, noise) -> ElboTerms:
        """Returns the terms of the ELBO, estimated from the given noise.

        The KL is in closed form where there is one: of a normal posterior and the
        standard prior. Elsewhere it is the mean of log q(z|x) - log p(z).

        Args:
          images: float32 [B, 28, 28, 1]: 0 or 1, or grey for a continuous likelihood.
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
        """Returns log p(x|z) + log p(z) - log q(z|x) of each draw: [B, K], nats.

        Their mean is an estimate of the ELBO, and the log of the mean of their
        exponentials one of the importance-weighted bound.

        Args:
          images: as `elbo_terms` takes them.
          noise: float32 [B, K, Z], K standard normal draws per image.

        Source: Burda et al. 2016, Importance Weighted Autoencoders, eq. 8.
        """
        draws = draw(self.encode(images), tf.transpose(noise, [1, 0, 2]))
        log_joint = self._log_likelihood(images, draws.z) + self.prior.log_prob(draws.z)
        return tf.transpose(log_joint - draws.log_prob)

    def compute_loss(
        self, terms: ElboTerms, kl_weight: float | tf.Tensor = 1.0
    ) -> tf.Tensor:
        """Returns what training minimizes, per example: [B], nats.

        At beta 1, weight 1 and no free bits it is the negative ELBO.

        Args:
          terms: of the ELBO.
          kl_weight: how much of beta is in force: below 1 while the KL warms up.

        Sources: Higgins et al. 2017, beta-VAE (beta); Bowman et al. 2016, Generating
        Sentences from a Continuous Space (warm-up); Kingma et al. 2016, Improving
        Variational Inference with Inverse Autoregressive Flow, eq. 15, with all
        latents as one group and per image, so that replicas need not agree (free bits).
        """
        kl = tf.maximum(terms.kl, self.config.free_bits)
        return kl_weight * self.config.beta * kl - terms.reconstruction

    def _log_likelihood(self, images, z) -> tf.Tensor:
        """Returns log p(x|z) in nats: images [B, ...], z [K, B, Z] -> [K, B]."""
        samples, batch = tf.unstack(tf.shape(z)[:2])
        flat = tf.reshape(z, [-1, self.config.latent_size])
        likelihood = self.decode(flat)  # batch [K B]
        log_prob = likelihood.log_prob(tf.tile(images, [samples, 1, 1, 1]))
        return tf.reshape(log_prob, [samples, batch])

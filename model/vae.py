"""The VAE of TFP layers, and its ELBO: written here once, used everywhere."""

from typing import NamedTuple

import tensorflow as tf
import tf_keras as tfk
from tensorflow_probability import distributions as tfd

from model import networks
from model.config import ModelConfig


class ElboTerms(NamedTuple):
    """The ELBO's two terms, per example, in nats."""

    reconstruction: tf.Tensor  # E_q[log p(x|z)], estimated from the samples; [B]
    kl: tf.Tensor  # KL(q(z|x) || p(z)), in closed form; [B]

    def elbo(self, beta: float = 1.0) -> tf.Tensor:
        """Returns reconstruction - beta KL, [B], nats; the true ELBO at beta 1."""
        return self.reconstruction - beta * self.kl


class VAE(tfk.Model):
    """A variational autoencoder whose calls give distributions.

    `vae(images)` is p(x|z) at one z drawn from q(z|x): a `tfd.Distribution` with batch
    [B] and event [28, 28, 1], as in the TFP layers' own examples.

    Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(name="vae")
        self.config = config
        # p(z). A diagonal rather than Independent(Normal): the KL has a closed form.
        self.prior = tfd.MultivariateNormalDiag(
            loc=tf.zeros(config.latent_size), scale_diag=tf.ones(config.latent_size)
        )
        self.encoder = networks.encoder(config)
        self.decoder = networks.decoder(config)
        names = ("elbo", *ElboTerms._fields)
        self._means = {name: tfk.metrics.Mean(name=name) for name in names}

    def call(self, images):
        return self.decoder(self.encoder(images))

    def encode(self, images) -> tfd.Distribution:
        """Returns q(z|x): images [B, 28, 28, 1] -> batch [B], event [Z]."""
        return self.encoder(images)

    def decode(self, z) -> tfd.Distribution:
        """Returns p(x|z): z [B, Z] -> batch [B], event [28, 28, 1]."""
        return self.decoder(z)

    def elbo_terms(self, images, noise) -> ElboTerms:
        """Returns the terms of the ELBO, estimated from the given noise.

        Args:
          images: float32 [B, 28, 28, 1], each pixel 0 or 1.
          noise: float32 [B, K, Z], K standard normal draws per image.

        Source: Kingma & Welling 2014, eq. 3, with the KL in closed form.
        """
        samples, latent_size = noise.shape[1], noise.shape[2]
        posterior = self.encode(images)  # q(z|x): batch [B], event [Z]
        z = posterior.loc[:, tf.newaxis] + tf.einsum(
            "bij,bkj->bki", posterior.scale_tril, noise
        )
        # p(x|z): batch [B K], event [28, 28, 1]
        likelihood = self.decode(tf.reshape(z, [-1, latent_size]))
        log_prob = likelihood.log_prob(tf.repeat(images, samples, axis=0))
        return ElboTerms(
            reconstruction=tf.reduce_mean(tf.reshape(log_prob, [-1, samples]), axis=1),
            kl=tfd.kl_divergence(posterior, self.prior),
        )

    # AutoGraph would rewrite Keras itself, for half a minute, and finds nothing here.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch):
        """Takes one optimizer step on (images, noise); Keras's contract for `fit`."""
        images, noise = batch
        with tf.GradientTape() as tape:
            terms = self.elbo_terms(images, noise)
            # The mean over the global batch: replicas add up their shares of it.
            loss = tf.nn.compute_average_loss(-terms.elbo(self.config.beta))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return self._update_means(terms)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, batch):
        """Adds (images, noise, weights) to the means; Keras's contract for `fit`."""
        images, noise, weights = batch
        return self._update_means(self.elbo_terms(images, noise), weights)

    def _update_means(self, terms: ElboTerms, weights=None):
        values = {"elbo": terms.elbo(), **terms._asdict()}
        for name, mean in self._means.items():
            mean.update_state(values[name], weights)
        return {name: mean.result() for name, mean in self._means.items()}

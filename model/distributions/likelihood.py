"""The likelihood p(x|z): a TFP distribution made from the decoder's last layer."""

import tensorflow as tf
import tf_keras as tfk
from tensorflow_probability import distributions as tfd
from tensorflow_probability import layers as tfpl

from model.config import IMAGE_SHAPE, ModelConfig


def layer(config: ModelConfig) -> tfk.layers.Layer:
    """Returns the TFP layer from logits [B, 784] to p(x|z).

    The distribution has batch [B] and event [28, 28, 1]. Its kind is a setting:

    - bernoulli: for binary pixels; Kingma & Welling 2014, Auto-Encoding Variational
      Bayes, appendix C.1.
    - continuous_bernoulli: a density on [0, 1] for grey pixels; Loaiza-Ganem &
      Cunningham 2019, The continuous Bernoulli: fixing a pervasive error in variational
      autoencoders.
    """
    if config.likelihood == "bernoulli":
        # Where Keras wants a tensor, it gets the logits: by default, each call of the
        # layer would draw a sample, which nothing here reads.
        return tfpl.IndependentBernoulli(IMAGE_SHAPE, tfd.Bernoulli.logits)
    return tfpl.DistributionLambda(_continuous_bernoulli)


def _continuous_bernoulli(logits: tf.Tensor) -> tfd.Distribution:
    pixels = tf.reshape(logits, tf.concat([tf.shape(logits)[:-1], IMAGE_SHAPE], axis=0))
    return tfd.Independent(
        tfd.ContinuousBernoulli(logits=pixels),
        reinterpreted_batch_ndims=len(IMAGE_SHAPE),
    )

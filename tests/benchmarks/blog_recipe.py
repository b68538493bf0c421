"""The 2019 TFP post's recipe, as published: the baseline of every comparison.

Its networks, regularizer, optimizer and input pipeline, in float32 under Keras's own
`fit`. KLDivergenceRegularizer enters the loss twice (tensorflow/probability#1215): what
`fit` prints is -reconstruction + 2 KL. `elbo_terms` gives the true terms beside it.

Source: https://blog.tensorflow.org/2019/03/variational-autoencoders-with.html
"""

import os

# Keras 2, before TensorFlow is imported; all else is as TensorFlow has it: `model`,
# which would change that too, is not imported here.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import tensorflow as tf
import tf_keras as tfk
from tensorflow_probability import distributions as tfd
from tensorflow_probability import layers as tfpl
from tf_keras import layers as tfkl

LATENT_SIZE, DEPTH, BATCH = 16, 32, 256
SHAPE = (28, 28, 1)
PRIOR = tfd.Independent(
    tfd.Normal(loc=tf.zeros(LATENT_SIZE), scale=1.0), reinterpreted_batch_ndims=1
)

# Filters, kernel, stride, padding.
_ENCODER = (
    (DEPTH, 5, 1, "same"),
    (DEPTH, 5, 2, "same"),
    (2 * DEPTH, 5, 1, "same"),
    (2 * DEPTH, 5, 2, "same"),
    (4 * LATENT_SIZE, 7, 1, "valid"),
)
_DECODER = (
    (2 * DEPTH, 7, 1, "valid"),
    (2 * DEPTH, 5, 1, "same"),
    (2 * DEPTH, 5, 2, "same"),
    (DEPTH, 5, 1, "same"),
    (DEPTH, 5, 2, "same"),
    (DEPTH, 5, 1, "same"),
)


def compiled() -> tfk.Model:
    """Returns the post's model, ready for `fit`."""
    encoder = tfk.Sequential(
        [
            tfkl.InputLayer(input_shape=SHAPE),
            tfkl.Lambda(lambda images: tf.cast(images, tf.float32) - 0.5),
            *_convolutions(tfkl.Conv2D, _ENCODER),
            tfkl.Flatten(),
            tfkl.Dense(tfpl.MultivariateNormalTriL.params_size(LATENT_SIZE)),
            tfpl.MultivariateNormalTriL(
                LATENT_SIZE, activity_regularizer=tfpl.KLDivergenceRegularizer(PRIOR)
            ),
        ]
    )
    decoder = tfk.Sequential(
        [
            tfkl.InputLayer(input_shape=[LATENT_SIZE]),
            tfkl.Reshape([1, 1, LATENT_SIZE]),
            *_convolutions(tfkl.Conv2DTranspose, _DECODER),
            tfkl.Conv2D(1, 5, padding="same"),
            tfkl.Flatten(),
            tfpl.IndependentBernoulli(SHAPE, tfd.Bernoulli.logits),
        ]
    )
    vae = tfk.Model(inputs=encoder.inputs, outputs=decoder(encoder.outputs[0]))
    vae.compile(
        optimizer=tfk.optimizers.Adam(1e-3),
        loss=lambda images, likelihood: -likelihood.log_prob(images),
    )
    vae.encoder, vae.decoder = encoder, decoder
    return vae


def batches(pixels: np.ndarray) -> tf.data.Dataset:
    """Returns one epoch as the post feeds it: image by image, then batched.

    Args:
      pixels: uint8 [N, 28, 28, 1].
    """

    def binarized(image):
        image = tf.cast(image, tf.float32) / 255.0
        image = image > tf.random.uniform(tf.shape(image))
        return image, image

    return (
        tf.data.Dataset.from_tensor_slices(pixels)
        .shuffle(10_000)
        .map(binarized)
        .batch(BATCH)
        .prefetch(tf.data.AUTOTUNE)
    )


def elbo_terms(vae: tfk.Model, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns reconstruction (one sample of z) and KL, each [B], in nats.

    The ELBO is their difference, with the KL counted once.

    Args:
      vae: what `compiled` gave.
      images: float32 [B, 28, 28, 1], each pixel 0 or 1.
    """
    posterior = vae.encoder(images)  # q(z|x)
    # A closed form: none exists against PRIOR's own kind of distribution.
    prior = tfd.MultivariateNormalDiag(tf.zeros(LATENT_SIZE), tf.ones(LATENT_SIZE))
    likelihood = vae.decoder(posterior.sample())  # p(x|z)
    return likelihood.log_prob(images), tfd.kl_divergence(posterior, prior)


def _convolutions(layer, settings):
    return [
        layer(filters, size, strides, padding, activation=tf.nn.leaky_relu)
        for filters, size, strides, padding in settings
    ]

"""The recipe of TFP's 2019 blog post, as published: the baseline of the benchmarks.

The networks, regularizer, optimizer and input pipeline are the post's, in float32 and
trained by Keras's own `fit`. KLDivergenceRegularizer enters the loss twice
(tensorflow/probability#1215), so `fit` prints -reconstruction + 2 KL. `elbo_terms`
returns the true terms.

Source: https://blog.tensorflow.org/2019/03/variational-autoencoders-with.html
"""

import os

# Chooses Keras 2 before TensorFlow is imported. All other settings are TensorFlow's
# defaults: this module does not import `model`, which would change them.
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

# Each row has filters, kernel size, stride and padding.
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
    """Returns the post's VAE, compiled by Keras and ready for `fit`."""
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
    """Returns one epoch of binarized batches, made as the post does: image by image.

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

    The ELBO is reconstruction minus KL, with the KL counted once.

    Args:
      vae: the model that `compiled` returned.
      images: float32 [B, 28, 28, 1], each pixel 0 or 1.
    """
    posterior = vae.encoder(images)  # q(z|x)
    # TFP has a closed-form KL for this class of prior, but none for the class of PRIOR.
    prior = tfd.MultivariateNormalDiag(tf.zeros(LATENT_SIZE), tf.ones(LATENT_SIZE))
    likelihood = vae.decoder(posterior.sample())  # p(x|z)
    return likelihood.log_prob(images), tfd.kl_divergence(posterior, prior)


def _convolutions(layer, settings):
    return [
        layer(filters, size, strides, padding, activation=tf.nn.leaky_relu)
        for filters, size, strides, padding in settings
    ]

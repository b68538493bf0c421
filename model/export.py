"""The export of a model: a SavedModel that loads without TFP and this package."""

import functools

import numpy as np
import tensorflow as tf
import tf_keras as tfk

from model import fixed_noise
from model.config import IMAGE_SHAPE
from model.distributions.posterior import draw_at_zero_noise
from model.examples import BITS, PIXELS, parse_model_input
from model.vae import VAE

_BLOCK = 16  # samples of z per image that `iwae` holds in memory at once


def export(vae: VAE, directory: str, *, samples: int, seed: int) -> None:
    """Writes a trained model as a SavedModel with the signatures of `ServingModule`.

    Args:
      vae: a trained model.
      directory: the folder to write, which must not exist yet.
      samples: K, draws of z per image in the signatures `elbo` and `elbo_examples`.
      seed: seed of all draws in `elbo`, `elbo_examples` and `iwae`, and of the fixed
        binarization.
    """
    # Keras numbers layers with a counter of the process. After a reset, every export of
    # a model has the same names.
    tfk.backend.reset_uids()
    # A copy, because the variables of training under a strategy are distributed.
    single = VAE(vae.config)
    single.set_weights(vae.get_weights())
    module = ServingModule(single, samples=samples, seed=seed)
    tf.saved_model.save(module, directory, signatures=module.signatures())


class ServingModule(tf.Module):
    """A module with the seven signatures of a VAE's SavedModel.

    The signatures are `reconstruct`, which is also `serving_default`, `encode`,
    `generate`, `decode`, `elbo`, `iwae` and `elbo_examples`. Images are float32
    [B, 28, 28, 1] in [0, 1]. Bounds on log p(x) are in nats per image; higher is
    better. All signatures raise InvalidArgumentError for an empty batch, a wrong shape,
    a pixel that is out of range or not a number, a latent that is not finite, bytes
    that are no tf.Example, or a number of samples below 1.
    """

    def __init__(self, vae: VAE, *, samples: int, seed: int):
        super().__init__()
        # Only the variables: a module with Keras or TFP objects can't be saved.
        self.variables_ = list(vae.variables)
        self._functions = _build_functions(vae, samples=samples, seed=seed)

    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """Returns the signatures by their names, for `tf.saved_model.save`."""
        return self._functions


def _build_functions(vae: VAE, *, samples: int, seed: int):
    images_spec = tf.TensorSpec([None, *IMAGE_SHAPE], tf.float32, name="images")
    latent_size = vae.config.latent_size
    latents_spec = tf.TensorSpec([None, latent_size], tf.float32, name="z")
    # AutoGraph would take half a minute to rewrite Keras's own code. It is not needed:
    # no Python control flow here depends on a tensor.
    graph = functools.partial(tf.function, autograph=False)

    def check_and_binarize(images: tf.Tensor) -> tf.Tensor:
        pixels = _check_images(images)
        return fixed_noise.binarize(pixels, seed) if vae.config.is_binary else pixels

    # Several signatures call each of the next three functions, whose graph is built and
    # saved once. That is most of the time of an export and of a load.

    @graph(input_signature=[images_spec])
    def estimate_elbo_terms(images):
        noise = fixed_noise.normal(
            images, seed, samples=samples, latent_size=latent_size
        )
        terms = vae.elbo_terms(images, noise)
        return {"elbo": terms.elbo(), **terms._asdict()}

    @graph(input_signature=[images_spec])
    def describe_posterior(images):
        posterior = vae.encode(images)
        if vae.config.posterior == "iaf":
            return {"loc": draw_at_zero_noise(posterior)}
        return {"loc": posterior.loc, "scale_tril": posterior.scale.to_dense()}

    @graph(input_signature=[latents_spec])
    def describe_likelihood(z):
        likelihood = vae.decode(z)
        return {
            "mean": likelihood.mean(),
            "mode": tf.cast(likelihood.mode(), tf.float32),
        }

    @graph(input_signature=[images_spec])
    def reconstruct(images):
        """Returns `mean` and `mode` of p(x|z) at z = `loc` of q(z|x).

        Both are float32 [B, 28, 28, 1].
        """
        return describe_likelihood(describe_posterior(_check_images(images))["loc"])

    @graph(input_signature=[images_spec])
    def encode(images):
        """Returns `loc` [B, Z] of q(z|x) and, if it is normal, `scale_tril` [B, Z, Z].

        `loc` is z at zero noise, which is the mean of a normal posterior.
        """
        return describe_posterior(_check_images(images))

    @graph(
        input_signature=[
            tf.TensorSpec([], tf.int32, name="n"),
            tf.TensorSpec([], tf.int64, name="seed"),
        ]
    )
    def generate(n, seed):
        """Returns `mean` and `mode` of p(x|z) at n draws of z from p(z).

        Both are float32 [n, 28, 28, 1].
        """
        n = _check_at_least_one(n, "n")
        z = vae.prior.sample(n, seed=tf.bitcast(seed, tf.int32))  # 64 bits as 2 x 32
        return describe_likelihood(z)

    @graph(input_signature=[latents_spec])
    def decode(z):
        """Returns `mean` and `mode` of p(x|z) for z [B, Z], [B, 28, 28, 1] each."""
        z = tf.ensure_shape(z, [None, latent_size])
        finite = tf.reduce_all(tf.math.is_finite(z))
        message = "every latent must be a finite number"
        checks = [_check_not_empty(z), tf.debugging.Assert(finite, [message, z])]
        with tf.control_dependencies(checks):
            return describe_likelihood(tf.identity(z))

    @graph(input_signature=[images_spec])
    def elbo(images):
        """Returns `elbo`, `reconstruction` and `kl` of each image, [B] each, in nats.

        For a Bernoulli likelihood, grey pixels are binarized first, in the way that
        Transform does it: the result depends only on the image and the seed.
        """
        return estimate_elbo_terms(check_and_binarize(images))

    @graph(input_signature=[images_spec, tf.TensorSpec([], tf.int32, name="k")])
    def iwae(images, k):
        """Returns `iwae`, the importance-weighted bound from k draws: [B], in nats.

        The binarization is that of `elbo`, and the first draws are those of `elbo`.
        Memory does not grow with k.

        Source: Burda et al. 2016, Importance Weighted Autoencoders, eq. 8.
        """
        k = _check_at_least_one(k, "k")
        with tf.control_dependencies([k]):  # two faults always give the same message
            pixels = check_and_binarize(images)

        def add_block(first, log_sum):
            noise = fixed_noise.normal(
                pixels, seed, samples=_BLOCK, latent_size=latent_size, first=first
            )
            log_weights = vae.log_weights(pixels, noise)  # [B, _BLOCK]
            # The last block may go beyond k.
            is_counted = first + tf.range(_BLOCK) < k
            log_weights = tf.where(is_counted, log_weights, -np.inf)
            terms = tf.concat([log_sum[:, tf.newaxis], log_weights], axis=1)
            return first + _BLOCK, tf.reduce_logsumexp(terms, axis=1)

        nothing = tf.fill(tf.shape(pixels)[:1], -np.inf)  # the log of an empty sum
        _, log_sum = tf.while_loop(
            lambda first, _: first < k,
            add_block,
            [tf.constant(0), nothing],
            shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
            parallel_iterations=1,  # one block in memory
        )
        return {"iwae": log_sum - tf.math.log(tf.cast(k, tf.float32))}

    @graph(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def elbo_examples(examples):
        """Returns what `elbo` returns, for serialized examples from Transform.

        Examples from the Transform of older releases are accepted, too.
        """
        with tf.control_dependencies([_check_not_empty(examples)]):
            examples = tf.identity(examples)
        feature = BITS if vae.config.is_binary else PIXELS
        return estimate_elbo_terms(_check_images(parse_model_input(examples, feature)))

    return {
        "serving_default": reconstruct,
        "reconstruct": reconstruct,
        "encode": encode,
        "generate": generate,
        "decode": decode,
        "elbo": elbo,
        "iwae": iwae,
        "elbo_examples": elbo_examples,
    }


def _check_images(images: tf.Tensor) -> tf.Tensor:
    """Returns the images after a check of their shape, number and pixel range."""
    # TensorFlow does not check the shape of a call to a loaded signature.
    images = tf.ensure_shape(images, [None, *IMAGE_SHAPE])
    message = "every pixel must be a number in [0, 1]"
    in_range = tf.logical_and(images >= 0.0, images <= 1.0)  # False for NaN
    checks = [
        _check_not_empty(images),
        tf.debugging.Assert(tf.reduce_all(in_range), [message, images]),
    ]
    # The checks run before everything else: on an empty batch a network may fail first,
    # with an unclear message.
    with tf.control_dependencies(checks):
        return tf.identity(images)


def _check_at_least_one(number: tf.Tensor, name: str) -> tf.Tensor:
    """Returns the number after a check that it is at least 1.

    The result depends on the check. If it did not, the two would run in parallel, and
    the operations that use the number might fail first, with an unclear message.
    """
    check = tf.debugging.assert_positive(number, message=f"{name} must be at least 1")
    with tf.control_dependencies([check]):
        return tf.identity(number)


def _check_not_empty(batch: tf.Tensor) -> tf.Operation:
    return tf.debugging.assert_positive(
        tf.shape(batch)[0], message="expected a batch of at least 1, got an empty one"
    )

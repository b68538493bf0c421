"""The encoder and the decoder that are built from the configuration."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as tfk
from tensorflow_probability import distributions as tfd

from model.distributions.posterior import Posterior
from model.networks import blog, build, conv_residual, dense
from tests.support.configs import demo_model

SIZES = {"latent_size": 3, "base_depth": 2, "hidden_units": 6}
NETWORKS = {"blog": blog, "dense": dense, "conv_residual": conv_residual}


def kinds(layers):
    return [type(layer) for layer in layers]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_configured_network_is_built(name):
    config = demo_model(network=name, **SIZES)
    encoder = build.encoder(config, Posterior(config), dtype="float32")
    decoder = build.decoder(config, "float32")
    hidden = NETWORKS[name]
    of_encoder = kinds(hidden.encoder(config, "float32"))
    assert kinds(encoder.layers)[1 : 1 + len(of_encoder)] == of_encoder
    of_decoder = kinds(hidden.decoder(config, "float32"))
    assert kinds(decoder.layers)[: len(of_decoder)] == of_decoder


def test_the_encoder_gives_a_normal_with_a_full_covariance(images):
    config = demo_model(network="dense", **SIZES)
    posterior = build.encoder(config, Posterior(config), dtype="float32")(images)
    assert (posterior.batch_shape, posterior.event_shape) == ([12], [3])
    assert posterior.covariance().shape == (12, 3, 3)


def test_the_encoder_gets_pixels_around_zero(images):
    config = demo_model(network="dense", **SIZES)
    encoder = build.encoder(config, Posterior(config), dtype="float32")
    np.testing.assert_allclose(encoder.layers[0](images), images - 0.5, atol=1e-7)


def test_the_decoder_gives_independent_pixels():
    config = demo_model(network="dense", **SIZES)
    z = np.random.default_rng(0).normal(size=[5, 3]).astype(np.float32)
    likelihood = build.decoder(config, "float32")(z)
    assert (likelihood.batch_shape, likelihood.event_shape) == ([5], [28, 28, 1])
    assert isinstance(likelihood.distribution, tfd.Bernoulli)


def test_only_the_hidden_layers_compute_in_less_precision(images):
    config = demo_model(network="dense", **SIZES)
    encoder = build.encoder(config, Posterior(config), dtype="mixed_bfloat16")
    decoder = build.decoder(config, "mixed_bfloat16")
    parameters = [x for x in encoder.layers if isinstance(x, tfk.layers.Dense)][-1]
    assert (encoder.layers[2].compute_dtype, parameters.compute_dtype) == (
        "bfloat16",
        "float32",
    )
    assert decoder.layers[0].compute_dtype == "bfloat16"
    assert encoder(images).mean().dtype == np.float32
    assert {v.dtype for v in encoder.variables + decoder.variables} == {tf.float32}

"""The dense networks, compared with the same layers in NumPy."""

import numpy as np
import pytest
import tf_keras as tfk

from model.networks import dense
from tests.support.configs import demo_model
from tests.support.densities import move

UNITS, LATENTS = 6, 3
CONFIG = demo_model(network="dense", latent_size=LATENTS, hidden_units=UNITS)


def silu(x):
    return x / (1 + np.exp(-x))


def normalized(x, gamma, beta):
    """Returns the layer normalization of x, with Keras's epsilon."""
    centered = x - x.mean(axis=-1, keepdims=True)
    return gamma * centered / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-3) + beta


def hidden(x, weights):
    """Returns silu(norm(h + scale * dense(silu(norm(h))))), where h = dense(x)."""
    kernel, bias, scale, *branch, last_gamma, last_beta = weights
    gamma, beta, inner_kernel, inner_bias = branch
    first = x @ kernel + bias
    inner = silu(normalized(first, gamma, beta)) @ inner_kernel + inner_bias
    return silu(normalized(first + scale * inner, last_gamma, last_beta))


@pytest.fixture
def network():
    def make(layers):
        tfk.utils.set_random_seed(0)
        return tfk.Sequential(layers)

    return make


def weights_by_role(layers):
    """Returns the weights of a network in the order of the arguments of `hidden`."""
    dense_layer, block, last = layers[:3]
    branch = block._branch.layers
    return [
        *dense_layer.get_weights(),
        block._scale.numpy(),
        *branch[0].get_weights(),
        *branch[2].get_weights(),
        *last.get_weights(),
    ]


def test_the_encoder_is_a_dense_residual_network(network, images):
    layers = dense.encoder(CONFIG, "float32")
    encoder = network(layers)
    encoder(images)
    move(encoder.trainable_variables)
    expected = hidden(images.reshape(12, -1), weights_by_role(layers[1:]))
    np.testing.assert_allclose(encoder(images), expected, rtol=1e-4, atol=1e-5)


def test_the_decoder_ends_in_a_logit_per_pixel(network):
    layers = dense.decoder(CONFIG, "float32")
    decoder = network(layers)
    z = np.random.default_rng(0).normal(size=[5, LATENTS]).astype(np.float32)
    decoder(z)
    move(decoder.trainable_variables)
    kernel, bias = layers[-1].get_weights()
    expected = hidden(z, weights_by_role(layers)) @ kernel + bias
    assert expected.shape == (5, 784)
    np.testing.assert_allclose(decoder(z), expected, rtol=1e-4, atol=1e-4)


def test_the_hidden_layers_compute_in_the_given_precision(network):
    layers = dense.decoder(CONFIG, "mixed_bfloat16")
    network(layers)(np.zeros([1, LATENTS], np.float32))
    assert [layer.compute_dtype for layer in layers[:-1]] == ["bfloat16"] * 4
    assert layers[-1].compute_dtype == "float32"  # the layer of the logits

"""The residual networks: shapes, parameters, and the formulas of their blocks."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as tfk

from model.networks.conv_residual import SubPixels
from model.networks.residual_blocks import Residual
from model.vae import VAE
from tests.support.configs import demo_model
from tests.support.densities import move

Z, DEPTH, UNITS = 3, 2, 8
SIZES = {"latent_size": Z, "base_depth": DEPTH, "hidden_units": UNITS}


@pytest.fixture(scope="module")
def vae():
    tfk.utils.set_random_seed(0)
    return VAE(demo_model(network="conv_residual", **SIZES))


def blocks(network, rank):
    found = [layer for layer in network.layers if isinstance(layer, Residual)]
    return [block for block in found if len(block.input_shape) == rank]


def test_the_shapes_on_the_way(vae):
    squares = [b.input_shape[1:] for b in blocks(vae.encoder, 4)]
    assert squares == [(14, 14, DEPTH), (7, 7, 2 * DEPTH)]
    squares = [b.input_shape[1:] for b in blocks(vae.decoder, 4)]
    assert squares == [(7, 7, 2 * DEPTH), (14, 14, DEPTH)]
    rows = [b.input_shape[1:] for n in (vae.encoder, vae.decoder) for b in blocks(n, 2)]
    assert rows == [(UNITS,), (UNITS,)]


def test_the_parameters_are_those_counted_by_hand(vae):
    def conv(size, before, after):
        return size * size * before * after + after

    def conv_block(depth):
        return 2 * conv(3, depth, depth) + depth  # the scale has one value per channel

    def dense(before, after):
        return (before + 1) * after

    # gamma and beta of the normalization, and a scale
    dense_block = dense(UNITS, UNITS) + 3 * UNITS
    double = 2 * DEPTH
    encoder = (
        conv(4, 1, DEPTH)
        + conv_block(DEPTH)
        + conv(3, DEPTH, double)
        + conv_block(double)
        + dense(7 * 7 * double, UNITS)
        + dense_block
        + dense(UNITS, Z + Z * (Z + 1) // 2)
    )
    decoder = (
        dense(Z, UNITS)
        + dense_block
        + dense(UNITS, 7 * 7 * double)
        + conv_block(double)
        + conv(3, double, 2 * double)
        + conv_block(DEPTH)
        + conv(3, DEPTH, 4)
    )
    assert vae.encoder.count_params() == encoder
    assert vae.decoder.count_params() == decoder


def test_convolutional_blocks_begin_as_the_identity(vae):
    for block in blocks(vae.encoder, 4) + blocks(vae.decoder, 4):
        x = np.random.default_rng(0).normal(size=[2, *block.input_shape[1:]])
        x = x.astype(np.float32)
        np.testing.assert_array_equal(block(x), x)
        before = block.get_weights()
        move(block.trainable_variables)
        assert not np.allclose(block(x), x)
        block.set_weights(before)


def test_a_dense_block_is_its_formula(vae):
    (block,) = blocks(vae.encoder, 2)
    x = np.random.default_rng(0).normal(size=[4, UNITS]).astype(np.float32)
    weights = {w.name.split("/")[-1].split(":")[0]: w for w in block.weights}
    centered = x - x.mean(axis=1, keepdims=True)
    normal = centered / np.sqrt((centered**2).mean(axis=1, keepdims=True) + 1e-3)
    active = normal / (1 + np.exp(-normal))
    expected = x + 0.5 * active @ weights["kernel"].numpy()
    np.testing.assert_allclose(block(x), expected, rtol=1e-4, atol=1e-5)


def test_sub_pixels_are_numpys():
    x = np.random.default_rng(0).normal(size=[2, 3, 5, 4 * 6]).astype(np.float32)
    # row, column, row within the square, column within the square
    squares = x.reshape(2, 3, 5, 2, 2, 6)
    expected = squares.transpose(0, 1, 3, 2, 4, 5).reshape(2, 6, 10, 6)
    np.testing.assert_array_equal(SubPixels()(x), expected)


def test_distributions_are_float32_in_mixed_precision(binary):
    config = demo_model(network="conv_residual", **SIZES, posterior="iaf")
    vae = VAE(config, "mixed_bfloat16")
    computed = {b.compute_dtype for b in blocks(vae.encoder, 4)}
    assert computed == {"bfloat16"}
    assert {variable.dtype for variable in vae.variables} == {tf.float32}
    posterior = vae.encode(binary)
    likelihood = vae.decode(posterior.sample())
    assert posterior.dtype == tf.float32
    assert likelihood.distribution.logits.dtype == tf.float32
    terms = vae.elbo_terms(binary, np.zeros([12, 1, Z], np.float32))
    assert {term.dtype for term in terms} == {tf.float32}

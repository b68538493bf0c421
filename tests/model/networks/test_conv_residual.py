"""The small residual convolutions: their shapes and their rearrangement of pixels."""

import numpy as np
import tensorflow as tf
import tf_keras as tfk

from model.networks import conv_residual
from model.networks.conv_residual import SubPixels
from tests.support.configs import demo_model

CONFIG = demo_model(
    network="conv_residual", latent_size=3, base_depth=2, hidden_units=6
)


def shapes_after_each_layer(layers, x):
    shapes = []
    for layer in layers:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    return shapes


def test_sub_pixels_fill_squares_row_by_row():
    """The channel determines the position in the square: Shi et al. 2016, eq. 4."""
    x = np.arange(2 * 3 * 3 * 8, dtype=np.float32).reshape(2, 3, 3, 8)
    found = SubPixels()(x).numpy()
    assert found.shape == (2, 6, 6, 2)
    for row in range(6):
        for column in range(6):
            place = row % 2 * 2 + column % 2
            np.testing.assert_array_equal(
                found[:, row, column],
                x[:, row // 2, column // 2, 2 * place : 2 * place + 2],
            )


def test_the_encoder_halves_the_image_twice():
    layers = conv_residual.encoder(CONFIG, "float32")
    shapes = shapes_after_each_layer(layers, tf.zeros([1, 28, 28, 1]))
    assert shapes == [
        *[(14, 14, 2)] * 3,
        *[(7, 7, 4)] * 3,
        (7 * 7 * 4,),
        *[(6,)] * 3,
    ]


def test_the_decoder_doubles_the_image_twice():
    layers = conv_residual.decoder(CONFIG, "float32")
    shapes = shapes_after_each_layer(layers, tf.zeros([1, 3]))
    assert shapes == [
        *[(6,)] * 3,
        (7 * 7 * 4,),
        *[(7, 7, 4)] * 3,
        (7, 7, 8),
        *[(14, 14, 2)] * 3,
        (14, 14, 4),
        (28, 28, 1),
    ]


def test_activations_come_between_linear_layers():
    """Two linear layers in a row would have no more power than one."""
    for layers in (
        conv_residual.encoder(CONFIG, "float32"),
        conv_residual.decoder(CONFIG, "float32"),
    ):
        kinds = [type(layer).__name__ for layer in layers]
        assert kinds.count("Activation") == 3
    x = tf.constant([[-1.0, 2.0]])
    silu = next(x for x in layers if isinstance(x, tfk.layers.Activation))
    np.testing.assert_allclose(silu(x), x / (1 + np.exp(-x)), rtol=1e-6)


def test_the_hidden_layers_compute_in_the_given_precision():
    encoder = conv_residual.encoder(CONFIG, "mixed_bfloat16")
    decoder = conv_residual.decoder(CONFIG, "mixed_bfloat16")
    assert {layer.compute_dtype for layer in encoder + decoder[:-2]} == {"bfloat16"}
    # the layers of the logits
    assert {layer.compute_dtype for layer in decoder[-2:]} == {"float32"}

"""The layer that replaces a layer of the post's network, and computes the same."""

import numpy as np
import tensorflow as tf
from tf_keras import layers as tfkl

from model.networks import blog
from tests.support.configs import demo_model

CONFIG = demo_model(network="blog", base_depth=3)


def features(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def output_and_gradients(layer, x):
    """Returns y, and the gradients of a weighted sum of y in x, kernel and bias."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(y * features(*y.shape))
    return y, *tape.gradient(loss, [x, *layer.trainable_weights])


def turned(kernel):
    """Returns a kernel rotated by 180 degrees, with input and output axes swapped."""
    return np.swapaxes(kernel[::-1, ::-1], 2, 3)


def test_the_layer_of_the_logits():
    ours = blog.decoder(CONFIG, "float32")[-1]
    posts = tfkl.Conv2D(1, 5, padding="same")
    x = features(5, 28, 28, 3)
    posts(x)
    ours(x)
    kernel, bias = posts.get_weights()[0], np.array([0.7], np.float32)
    posts.set_weights([kernel, bias])
    ours.set_weights([turned(kernel), bias])
    y, of_x, of_kernel, of_bias = output_and_gradients(ours, x)
    found = [y, of_x, turned(of_kernel.numpy()), of_bias]
    for one, other in zip(found, output_and_gradients(posts, x)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


def test_the_logits_weights_begin_as_the_posts():
    """Glorot's uniform distribution is on [-sqrt(6 / fans), sqrt(6 / fans)]."""
    logits = blog.decoder(demo_model(network="blog", base_depth=64), "float32")[-1]
    logits.build([None, 28, 28, 64])
    kernel = logits.get_weights()[0]
    limit = np.sqrt(6 / (25 * 64 + 25 * 1))
    assert 0.98 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.05)

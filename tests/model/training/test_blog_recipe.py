"""The benchmarks' baseline, which must match the blog post's recipe in all details."""

import numpy as np
import pytest
import tensorflow as tf

from model.vae import VAE
from tests.benchmarks import blog_recipe
from tests.support.configs import demo_model


@pytest.fixture(scope="module")
def seed():
    tf.random.set_seed(0)
    return blog_recipe.compiled()


def test_its_networks_are_those_of_the_preset_blog(seed, binary):
    """With the same weights, except the last kernel's layout, outputs are equal."""
    ours = VAE(demo_model(network="blog"))
    *weights, kernel, bias = seed.get_weights()
    turned = np.swapaxes(kernel[::-1, ::-1], 2, 3)
    assert len(ours.trainable_weights) == len(seed.get_weights())
    for weight, value in zip(ours.trainable_weights, [*weights, turned, bias]):
        weight.assign(value)
    q, posts_q = ours.encode(binary), seed.encoder(binary)
    np.testing.assert_allclose(q.loc, posts_q.loc, atol=1e-5)
    np.testing.assert_allclose(q.scale_tril, posts_q.scale_tril, atol=1e-5)
    z = 3.0 * np.random.default_rng(2).normal(size=[12, 16]).astype(np.float32)
    logits = ours.decode(z).distribution.logits_parameter()
    posts_logits = seed.decoder(z).distribution.logits_parameter()
    np.testing.assert_allclose(logits, posts_logits, atol=1e-5)


def test_it_counts_the_kl_twice(seed, binary):
    # enough images for two estimates to be close
    binary = np.tile(binary, [20, 1, 1, 1])
    tf.random.set_seed(0)
    seed(binary)
    first, second = map(float, seed.losses)
    assert first == pytest.approx(second, rel=0.2)  # both are estimated from samples
    reconstruction, kl = blog_recipe.elbo_terms(seed, binary)
    printed = seed.evaluate(binary, binary, verbose=0)
    once = np.mean(kl - reconstruction)
    assert printed == pytest.approx(once + np.mean(kl), abs=2)
    assert np.mean(kl) == pytest.approx(first, rel=0.2)


def test_its_images_are_binarized_one_by_one(images):
    pixels = np.round(images * 255).astype(np.uint8)
    ((batch, target),) = blog_recipe.batches(pixels)
    assert batch.shape == [12, 28, 28, 1]
    assert batch.dtype == tf.bool
    np.testing.assert_array_equal(batch, target)
    white = np.full([40, 28, 28, 1], 128, np.uint8)
    ((drawn, _),) = blog_recipe.batches(white)
    assert np.mean(drawn) == pytest.approx(128 / 255, abs=5 * 0.5 / np.sqrt(white.size))

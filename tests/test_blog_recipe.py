"""The baseline of the benchmarks is the post's recipe, with all that it does."""

import numpy as np
import pytest
import tensorflow as tf

from model.config import ModelConfig
from model.vae import VAE
from tests.benchmarks import blog_recipe


@pytest.fixture(scope="module")
def seed():
    tf.random.set_seed(0)
    return blog_recipe.compiled()


def test_its_networks_are_those_of_the_preset_blog(seed):
    ours = VAE(ModelConfig(network="blog"))
    ours(np.zeros([1, 28, 28, 1], np.float32))
    shapes = [weight.shape for weight in seed.trainable_weights]
    assert shapes == [weight.shape for weight in ours.trainable_weights]


def test_it_counts_the_kl_twice(seed, binary):
    seed(binary)
    first, second = map(float, seed.losses)
    assert first == pytest.approx(second, rel=0.2)  # estimated from samples
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

"""Noise and binarization that depend only on the image and the seed."""

import hashlib
import statistics

import numpy as np
import pytest
import tensorflow as tf

from model import fixed_noise


def test_binarization_depends_on_the_image_alone(images):
    whole = fixed_noise.binarize(images, seed=0)
    np.testing.assert_array_equal(fixed_noise.binarize(images[5:6], 0), whole[5:6])
    np.testing.assert_array_equal(fixed_noise.binarize(images[::-1], 0), whole[::-1])


def test_noise_depends_on_the_image_alone(images):
    whole = fixed_noise.normal(images, seed=0, samples=3, latent_size=4)
    assert whole.shape == [12, 3, 4]
    part = fixed_noise.normal(images[5:6], seed=0, samples=3, latent_size=4)
    # Equal up to rounding: the last few values of a batch use another kernel.
    np.testing.assert_allclose(part, whole[5:6], rtol=1e-6)


def test_a_sequence_does_not_depend_on_the_size_of_its_blocks(images):
    whole = fixed_noise.normal(images, 0, samples=9, latent_size=3)
    for sizes in [(4, 4, 1), (1, 8), (9,)]:
        firsts = np.cumsum([0, *sizes[:-1]])
        blocks = [
            fixed_noise.normal(
                images,
                0,
                samples=size,
                latent_size=3,
                first=tf.constant(first, tf.int32),
            )
            for size, first in zip(sizes, firsts)
        ]
        np.testing.assert_allclose(tf.concat(blocks, axis=1), whole, rtol=1e-6)


def test_it_is_the_same_in_a_graph(images):
    graph = tf.function(
        lambda x: fixed_noise.normal(x, 0, samples=3, latent_size=4), autograph=False
    )
    expected = fixed_noise.normal(images, 0, samples=3, latent_size=4)
    np.testing.assert_allclose(graph(images), expected, rtol=1e-6)


def test_a_pixel_or_a_seed_changes_every_draw(images):
    other = images.copy()
    other[0, 13, 13, 0] = 1.0 - other[0, 13, 13, 0]
    a = fixed_noise.normal(images[:1], 0, samples=64, latent_size=16).numpy()
    b = fixed_noise.normal(other[:1], 0, samples=64, latent_size=16).numpy()
    c = fixed_noise.normal(images[:1], 1, samples=64, latent_size=16).numpy()
    for one, two in [(a, b), (a, c), (b, c)]:
        # 1,024 pairs of independent normals: the correlation has standard deviation
        # 1/32.
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 5 / 32


def test_binarization_and_noise_are_independent_of_each_other(images):
    gray = np.full([200, 28, 28, 1], 0.5, np.float32)
    gray[:, 0, 0, 0] = np.arange(200) / 255  # 200 different images
    bits = fixed_noise.binarize(gray, 0).numpy().reshape(200, -1)[:, 1:101]
    normal = (
        fixed_noise.normal(gray, 0, samples=100, latent_size=1).numpy().reshape(200, -1)
    )
    assert abs(np.corrcoef(bits.ravel(), normal.ravel())[0, 1]) < 5 / np.sqrt(20_000)


def test_the_mean_bit_is_the_pixel(images):
    """The bits of many images that differ in one corner have the pixels as means."""
    many = np.repeat(images[:1], 2_000, axis=0)
    many[:, 0, 0, 0] = np.arange(2_000) % 256 / 255
    many[:, 0, 1, 0] = np.arange(2_000) // 256 / 255
    bits = fixed_noise.binarize(many, 0).numpy()
    error = np.abs(bits[:, 1:].mean(0) - images[0, 1:])
    assert error.max() < 5 * 0.5 / np.sqrt(2_000)


def test_a_binary_image_stays_as_it_is(binary):
    np.testing.assert_array_equal(fixed_noise.binarize(binary, 0), binary)


def test_noise_is_standard_normal(images):
    draws = fixed_noise.normal(images, 0, samples=1_000, latent_size=16).numpy()
    assert abs(draws.mean()) < 5 / np.sqrt(draws.size)
    assert draws.std() == pytest.approx(1, abs=5 / np.sqrt(2 * draws.size))


def test_draws_are_splitmix64_of_the_hash(images):
    """The reference is Python's integers, and for 0 output of Steele's Java code."""

    def splitmix64(state, count, skipped=0):
        state += skipped * 0x9E3779B97F4A7C15
        for _ in range(count):
            state = (state + 0x9E3779B97F4A7C15) % 2**64
            z = state
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
            yield z ^ (z >> 31)

    assert list(splitmix64(0, 2)) == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    digest = hashlib.shake_256(b"posterior 0").digest(98 * 8)
    keys = [int.from_bytes(digest[i : i + 8], "little") | 1 for i in range(0, 784, 8)]
    pixels = np.round(images[3] * 255).astype(np.uint8).tobytes()
    words = [int.from_bytes(pixels[i : i + 8], "little") for i in range(0, 784, 8)]
    state = sum(w * k for w, k in zip(words, keys)) % 2**64
    expected = [((z >> 41) + 0.5) / 2**23 for z in splitmix64(state, 12)]
    uniform = fixed_noise._uniform(images, "posterior 0", shape=[3, 4])
    np.testing.assert_array_equal(uniform[3].numpy().ravel(), expected)
    late = (
        fixed_noise.normal(images, 0, samples=3, latent_size=4, first=2**31 - 1)[3]
        .numpy()
        .ravel()
    )
    later = [((z >> 41) + 0.5) / 2**23 for z in splitmix64(state, 12, 4 * (2**31 - 1))]
    cdf = statistics.NormalDist().cdf
    np.testing.assert_allclose([cdf(z) for z in late], later, rtol=1e-5)
    normal = fixed_noise.normal(images, 0, samples=3, latent_size=4)[3].numpy().ravel()
    np.testing.assert_allclose([cdf(z) for z in normal], expected, rtol=1e-5)

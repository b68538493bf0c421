"""The independent pixels, compared with closed forms, scipy and TFP."""

import numpy as np
import pytest
import scipy.stats
from tensorflow_probability import distributions as tfd

from components.datasets.idx import SplitError
from components.evaluation import independent_pixels
from components.evaluation.independent_pixels import (
    IndependentPixels,
    fit_bernoulli,
    fit_discretized_logistic,
)
from model.examples import BITS, PIXELS
from tests.support import transformed


def grey_images(count, shape=(28, 28, 1), seed=0):
    """Returns images whose pixels have means from 0 to 255 and various spreads."""
    rng = np.random.default_rng(seed)
    mean, spread = rng.uniform(-20, 275, shape), rng.uniform(0.1, 60, shape)
    images = rng.normal(mean, spread, [count, *shape])
    return np.round(np.clip(images, 0, 255)).astype(np.uint8)


def binary_images(count, shape=(28, 28, 1), seed=0):
    rng = np.random.default_rng(seed)
    return np.uint8(255) * (rng.random([count, *shape]) < rng.random(shape))


# Bernoulli.


def test_three_images_of_two_pixels_by_hand():
    images = np.array([[255, 0], [255, 0], [0, 0]], np.uint8)
    fitted = fit_bernoulli([images])
    on = np.array([3 / 5, 1 / 5])  # (on + 1) / (images + 2)
    expected = [
        np.log(on[0]) + np.log(1 - on[1]),
        np.log(on[0]) + np.log(1 - on[1]),
        np.log(1 - on[0]) + np.log(1 - on[1]),
    ]
    np.testing.assert_allclose(fitted.log_likelihood(images), expected, rtol=1e-15)


def test_binary_images_have_scipys_bernoulli_likelihood():
    train, test = binary_images(500), binary_images(40)[::-1]
    fitted = fit_bernoulli(np.array_split(train, 7))
    on = ((train == 255).sum(axis=0) + 1) / (len(train) + 2)
    expected = scipy.stats.bernoulli.logpmf(test // 255, on).sum(axis=(1, 2, 3))
    found = fitted.log_likelihood(test)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_no_image_is_impossible_after_training_on_black_and_white_pixels():
    train = np.zeros([60_000, 2], np.uint8)
    train[:, 1] = 255
    fitted = fit_bernoulli([train])
    opposite = np.array([[255, 0]], np.uint8)
    expected = 2 * np.log(1 / 60_002)
    np.testing.assert_allclose(fitted.log_likelihood(opposite), [expected], rtol=1e-12)


# Discretized logistic.


def expected_of_levels(train, test):
    """Returns the log-likelihood with scipy's logistic distribution: float64 [B]."""
    pixels = np.float64(train.reshape(len(train), -1))
    variance = pixels.var(axis=0) + 1 / 12
    logistic = scipy.stats.logistic(
        loc=pixels.mean(axis=0), scale=np.sqrt(3 * variance) / np.pi
    )
    levels = np.float64(test.reshape(len(test), -1))
    low = np.where(levels == 0, -np.inf, levels - 0.5)
    high = np.where(levels == 255, np.inf, levels + 0.5)
    # The survival function where the distribution function is near 1.
    mass = np.where(
        low > logistic.mean(),
        logistic.sf(low) - logistic.sf(high),
        logistic.cdf(high) - logistic.cdf(low),
    )
    return np.log(mass).sum(axis=1)


def test_grey_images_have_the_likelihood_of_scipys_logistic_distribution():
    train, test = grey_images(400), grey_images(430)[400:]
    fitted = fit_discretized_logistic(np.array_split(train, 5), as_density=False)
    expected = expected_of_levels(train, test)
    np.testing.assert_allclose(fitted.log_likelihood(test), expected, rtol=1e-9)


def test_grey_images_have_the_likelihood_of_tfps_quantized_logistic_distribution():
    train, test = grey_images(400, [12]), grey_images(430, [12])[400:]
    fitted = fit_discretized_logistic([train], as_density=False)
    scale = np.sqrt(3 * (train.var(axis=0) + 1 / 12)) / np.pi
    # TFP quantizes upwards: level k has the values in (k - 1, k].
    quantized = tfd.QuantizedDistribution(
        tfd.Logistic(train.mean(axis=0) - 0.5, scale), low=0.0, high=255.0
    )
    expected = quantized.log_prob(np.float64(test)).numpy().sum(axis=1)
    np.testing.assert_allclose(fitted.log_likelihood(test), expected, rtol=1e-6)


def test_the_levels_probabilities_sum_to_1():
    fitted = fit_discretized_logistic([grey_images(300)], as_density=False)
    sums = np.exp(fitted.log_prob).sum(axis=1)
    np.testing.assert_allclose(sums, 1.0, rtol=1e-12)


def test_a_density_integrates_to_1_over_256_bins_of_the_unit_interval():
    fitted = fit_discretized_logistic([grey_images(300)], as_density=True)
    bins = np.floor(256 * np.arange(256) / 255).clip(max=255)  # of the values k / 255
    assert bins.tolist() == list(range(256))
    integrals = (np.exp(fitted.log_prob) / 256).sum(axis=1)
    np.testing.assert_allclose(integrals, 1.0, rtol=1e-12)


def test_a_pixel_that_never_changed_makes_other_levels_unlikely_but_possible():
    fitted = fit_discretized_logistic([np.zeros([9, 1], np.uint8)], as_density=False)
    # The tail of the logistic distribution, exp(-x / s), where nothing may be rounded
    # to 0: the scale is that of the variance 1/12, s = 1 / (2 pi).
    white = fitted.log_likelihood(np.array([[255]], np.uint8))
    np.testing.assert_allclose(white, [-254.5 * 2 * np.pi], rtol=1e-12)
    black = fitted.log_likelihood(np.array([[0]], np.uint8))
    np.testing.assert_allclose(black, [-np.log1p(np.exp(-np.pi))], rtol=1e-12)


def test_each_channel_of_a_colour_image_has_its_own_distribution():
    train, test = grey_images(300, [8, 8, 3]), grey_images(310, [8, 8, 3])[300:]
    fitted = fit_discretized_logistic([train], as_density=False)
    by_channel = [expected_of_levels(train[..., c], test[..., c]) for c in range(3)]
    np.testing.assert_allclose(fitted.log_likelihood(test), sum(by_channel), rtol=1e-9)


def test_a_million_white_images_are_counted_exactly():
    batch = np.full([1_000, 1], 255, np.uint8)
    fitted = fit_discretized_logistic((batch for _ in range(1_000)), as_density=False)
    few = fit_discretized_logistic([batch], as_density=False)
    np.testing.assert_array_equal(fitted.log_prob, few.log_prob)


# Files of Transform.


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns files of the train and the test split, and their images and bits."""
    folder = tmp_path_factory.mktemp("transformed")
    images, bits = grey_images(130), binary_images(130) // 255
    for name, part in {
        "a": slice(50),
        "b": slice(50, 100),
        "test": slice(100, 130),
    }.items():
        transformed.write(folder / name, images[part] / 255, bits[part])
    train = [str(folder / "a"), str(folder / "b")]
    return train, [str(folder / "test")], images, bits


def test_a_binary_model_is_compared_on_the_bits(files):
    train, test, _, bits = files
    fitted = independent_pixels.fit(train, BITS)
    on = (bits[:100].sum(axis=0) + 1) / 102
    expected = scipy.stats.bernoulli.logpmf(bits[100:], on).sum(axis=(1, 2, 3))
    found = independent_pixels.measure(fitted, test, feature=BITS)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_model_of_densities_is_compared_on_the_pixels_with_densities(files):
    train, test, images, _ = files
    fitted = independent_pixels.fit(train, PIXELS)
    expected = expected_of_levels(images[:100], images[100:]) + 784 * np.log(256)
    found = independent_pixels.measure(fitted, test, feature=PIXELS)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_split_without_images_has_no_likelihoods(tmp_path):
    transformed.write(tmp_path / "test", [], [])
    fitted = IndependentPixels(np.zeros([784, 256]))
    found = independent_pixels.measure(fitted, [str(tmp_path / "test")], feature=BITS)
    assert found.tolist() == []


@pytest.mark.parametrize("feature", [BITS, PIXELS])
def test_an_empty_train_split_is_named(feature, tmp_path):
    transformed.write(tmp_path / "train", [], [])
    with pytest.raises(SplitError) as caught:
        independent_pixels.fit([str(tmp_path / "train")], feature)
    assert str(caught.value) == (
        "the train split must have images, from which the distributions of the "
        "independent pixels are fitted, got none"
    )

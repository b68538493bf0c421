"""The likelihoods p(x|z), compared with NumPy and the formulas of a paper."""

import numpy as np
import pytest
from scipy import integrate

from model.config import ModelConfig
from model.distributions import likelihood


def a_likelihood(kind, logits):
    """Returns p(x|z) whose first pixels have the given logits, and the rest have 0."""
    rows = np.zeros([2, 784], np.float32)
    rows[0, : len(logits)] = logits
    return likelihood.layer(ModelConfig(likelihood=kind))(rows)


def log_constant(logit):
    """Returns the log of the continuous Bernoulli's normalizing constant.

    Source: Loaiza-Ganem & Cunningham 2019, eq. 6, with 2 artanh(1 - 2 p) = -logit.
    """
    if logit == 0:
        return np.log(2)
    logit = abs(logit)  # the function is even; no exponential overflows
    return np.log(logit) - np.log(np.tanh(logit / 2))


LOGITS = np.array(
    [0, 1e-8, -1e-4, 1e-3, -0.03, 0.1, -0.3, 1, -3, 10, -15.9, 16.1, 40, -100]
)


def test_bernoulli_is_numpys():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, [2, 28, 28, 1]).astype(np.float32)
    p_x = a_likelihood("bernoulli", LOGITS)
    assert p_x.batch_shape == [2]
    assert p_x.event_shape == [28, 28, 1]
    logits = np.zeros([2, 784])
    logits[0, : len(LOGITS)] = LOGITS
    pixels = x.reshape(2, 784) * logits - np.logaddexp(0, logits)
    np.testing.assert_allclose(p_x.log_prob(x), pixels.sum(axis=1), rtol=1e-5)


def test_continuous_bernoulli_is_the_papers():
    x = np.random.default_rng(0).uniform(size=[2, 28, 28, 1]).astype(np.float32)
    p_x = a_likelihood("continuous_bernoulli", LOGITS)
    assert p_x.batch_shape == [2]
    assert p_x.event_shape == [28, 28, 1]
    pixels = p_x.distribution.log_prob(x).numpy().reshape(2, 784)
    first = x[0].ravel()[: len(LOGITS)].astype(np.float64)
    constants = np.array([log_constant(logit) for logit in LOGITS])
    expected = first * LOGITS - np.logaddexp(0, LOGITS) + constants
    np.testing.assert_allclose(pixels[0, : len(LOGITS)], expected, rtol=1e-4, atol=2e-6)
    # The distribution at logit 0 is uniform.
    np.testing.assert_allclose(pixels[1], 0, atol=1e-6)
    total = p_x.log_prob(x)
    np.testing.assert_allclose(total, pixels.sum(axis=1), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("logit", [0, 1e-3, -0.2, 2, -9, 30])
def test_a_continuous_pixel_has_mass_1_and_its_mean(logit):
    grid = np.linspace(0, 1, 2001, dtype=np.float32)
    pixel = a_likelihood("continuous_bernoulli", [logit]).distribution
    x = grid.reshape(-1, 1, 1, 1, 1)
    density = np.exp(pixel.log_prob(x)[:, 0, 0, 0, 0])
    assert integrate.simpson(density, x=grid) == pytest.approx(1, abs=1e-4)
    mean = integrate.simpson(density * grid, x=grid)
    assert float(pixel.mean()[0, 0, 0, 0]) == pytest.approx(mean, abs=1e-4)

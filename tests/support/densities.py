"""Helpers for the tests of priors, posteriors and the VAE."""

import numpy as np


def move(variables, by=0.1):
    """Adds normal noise to each variable and applies its constraint, e.g. a mask."""
    rng = np.random.default_rng(5)
    for variable in variables:
        value = variable + by * rng.normal(size=variable.shape).astype(np.float32)
        constrain = variable.constraint or (lambda same: same)
        variable.assign(constrain(value))


def assert_is_density_of(samples, log_prob, atol=0.1):
    """Asserts that a density of 2-D points has mass 1 and the samples' moments.

    Both are summed over a grid of the plane.

    Args:
      samples: [N, 2].
      log_prob: function of points [M, 2] that returns [M].
      atol: tolerance of the moments of first and second order.
    """
    axis, step = np.linspace(-9, 9, 181, retstep=True)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float32)
    mass = np.exp(np.asarray(log_prob(grid), np.float64)) * step**2
    np.testing.assert_allclose(mass.sum(), 1, atol=2e-3)
    samples = np.asarray(samples)
    np.testing.assert_allclose(samples.mean(axis=0), mass @ grid, atol=atol)
    second = grid.T @ (mass[:, np.newaxis] * grid)
    np.testing.assert_allclose(samples.T @ samples / len(samples), second, atol=atol)

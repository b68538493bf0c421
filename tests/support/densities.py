"""What the tests of priors, posteriors and the VAE share."""

import numpy as np


def move(variables, by=0.1):
    """Moves each variable by normal numbers, within its constraint: a flow's masks."""
    rng = np.random.default_rng(5)
    for variable in variables:
        value = variable + by * rng.normal(size=variable.shape).astype(np.float32)
        constrain = variable.constraint or (lambda same: same)
        variable.assign(constrain(value))


def assert_is_density_of(samples, log_prob, atol=0.1):
    """Asserts mass 1 and the samples' moments, by summing over a grid of the plane.

    Args:
      samples: [N, 2].
      log_prob: of points [M, 2] -> [M].
      atol: of the moments of first and second order.
    """
    axis, step = np.linspace(-9, 9, 181, retstep=True)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float32)
    mass = np.exp(np.asarray(log_prob(grid), np.float64)) * step**2
    np.testing.assert_allclose(mass.sum(), 1, atol=2e-3)
    samples = np.asarray(samples)
    np.testing.assert_allclose(samples.mean(axis=0), mass @ grid, atol=atol)
    second = grid.T @ (mass[:, np.newaxis] * grid)
    np.testing.assert_allclose(samples.T @ samples / len(samples), second, atol=atol)

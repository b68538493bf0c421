"""The priors p(z), compared with NumPy."""

import numpy as np
import pytest
import tf_keras as tfk
from scipy import stats
from scipy.special import logsumexp, softmax

from model.distributions.posterior import Posterior
from model.distributions.prior import Prior
from tests.support.configs import demo_model
from tests.support.densities import assert_is_density_of, move

KINDS = ["standard", "mixture", "vampprior", "realnvp"]
COUNT, UNITS = 3, 7


def a_prior(kind, size=3, **settings):
    tfk.utils.set_random_seed(0)
    return Prior(
        demo_model(
            prior=kind,
            latent_size=size,
            prior_components=COUNT,
            flow_units=UNITS,
            **settings,
        )
    )


def an_encoder(size, kind="full"):
    """Returns a model that maps images to q(z|x)."""
    posterior = Posterior(demo_model(latent_size=size, posterior=kind))
    spread = tfk.initializers.RandomNormal(stddev=0.1)
    return tfk.Sequential(
        [
            tfk.layers.Flatten(),
            tfk.layers.Dense(posterior.params_size, kernel_initializer=spread),
            posterior.layer(),
        ]
    )


def points(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-4)


def numpy_coupling(weights, x):
    """Returns shift and log scale of a coupling layer's changed dimensions.

    Source: Dinh et al. 2017.
    """
    first, first_bias, second, second_bias, last, last_bias = weights
    hidden = np.maximum(x @ first + first_bias, 0)
    hidden = np.maximum(hidden @ second + second_bias, 0)
    shift, log_scale = np.split(hidden @ last + last_bias, 2, axis=-1)
    return shift, 2 * np.tanh(log_scale / 2)


def numpy_realnvp(layers, z):
    """Returns the noise from which z is made, and log |d noise / d z|."""
    z, log_det = z.copy(), 0.0
    half = z.shape[-1] // 2
    # the layer that acts on noise last is inverted first
    for number, weights in enumerate(layers):
        kept, changed = slice(None, half), slice(half, None)
        if number % 2:
            kept, changed = slice(-half, None), slice(None, -half)
        shift, log_scale = numpy_coupling(weights, z[..., kept])
        z[..., changed] = (z[..., changed] - shift) * np.exp(-log_scale)
        log_det = log_det - log_scale.sum(axis=-1)
    return z, log_det


@pytest.mark.parametrize("shape", [(3,), (2, 3), (5, 2, 3)])
def test_the_standard_prior(shape):
    prior, z = a_prior("standard"), points(*shape)
    close(prior.distribution(None).log_prob(z), stats.norm.logpdf(z).sum(axis=-1))
    assert prior.trainable_variables == []


@pytest.mark.parametrize("size", [1, 3])
def test_a_mixture_is_the_sum_of_its_components(size):
    prior, z = a_prior("mixture", size), points(5, 2, size)
    move(prior.trainable_variables, by=0.5)
    logits, loc, scale = prior.get_weights()
    scale = np.logaddexp(0, scale) + 1e-5
    components = stats.norm.logpdf(z[..., np.newaxis, :], loc, scale).sum(axis=-1)
    expected = logsumexp(components + np.log(softmax(logits)), axis=-1)
    close(prior.distribution(None).log_prob(z), expected)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_a_vampprior_is_the_mean_of_the_pseudo_images_posteriors(kind):
    prior, encoder, z = a_prior("vampprior"), an_encoder(3, kind), points(5, 2, 3)
    (pseudo_images,) = prior.get_weights()
    assert pseudo_images.shape == (COUNT, 28, 28, 1)
    q = encoder(1 / (1 + np.exp(-pseudo_images)))
    densities = [
        stats.multivariate_normal(mean, covariance).pdf(z)
        for mean, covariance in zip(q.mean().numpy(), q.covariance().numpy())
    ]
    expected = np.log(np.mean(densities, axis=0))
    close(prior.distribution(encoder).log_prob(z), expected)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_realnvp_is_its_change_of_variables(size):
    prior = a_prior("realnvp", size, prior_layers=3)
    shapes = [(size,), (2, size), (5, 2, size)]
    for z in (points(*shape) for shape in shapes):
        flow = prior.distribution(None)
        np.testing.assert_array_equal(flow.bijector.forward(z), z)
        standard = stats.norm.logpdf(z).sum(axis=-1)
        np.testing.assert_allclose(flow.log_prob(z), standard, rtol=1e-6)

    move(prior.trainable_variables, by=0.5)
    layers = np.split(np.array(prior.get_weights(), object), 3)
    for z in (points(*shape) for shape in shapes):
        noise, log_det = numpy_realnvp(layers, z)
        assert np.abs(log_det).min() > 0.01
        flow = prior.distribution(None)
        close(flow.log_prob(z), stats.norm.logpdf(noise).sum(axis=-1) + log_det)
        close(flow.bijector.forward(noise), z)
        # NumPy arrays, as a bijector caches the inverse of a tensor.
        close(flow.bijector.inverse(flow.bijector.forward(z).numpy()), z)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_realnvp_changes_every_dimension(size):
    prior, z = a_prior("realnvp", size, prior_layers=2), points(4, size)
    move(prior.trainable_variables, by=0.5)
    assert np.all(prior.distribution(None).bijector.forward(z) != z)


@pytest.mark.parametrize("kind", KINDS)
def test_a_density_has_mass_1_and_its_samples_moments(kind):
    prior = a_prior(kind, size=2)
    move(prior.trainable_variables, by=0.2)
    distribution = prior.distribution(an_encoder(2))
    samples = distribution.sample(20_000, seed=4)
    assert_is_density_of(samples, distribution.log_prob)


@pytest.mark.parametrize(
    ("kind", "variables", "parameters"),
    [
        ("standard", 0, 0),
        ("mixture", 3, COUNT + 2 * COUNT * 5),
        ("vampprior", 1, COUNT * 28 * 28),
        # Two dimensions determine the other three; 4 networks of 3 layers.
        ("realnvp", 24, 4 * (3 * UNITS + 8 * UNITS + (UNITS + 1) * 2 * 3)),
    ],
)
def test_what_a_prior_learns(kind, variables, parameters):
    prior = a_prior(kind, size=5)
    assert len(prior.trainable_variables) == variables
    assert sum(v.shape.num_elements() for v in prior.variables) == parameters

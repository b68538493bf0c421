"""The posteriors q(z|x), compared with SciPy and NumPy."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as tfk
from scipy import stats
from scipy.special import expit

from model.distributions.posterior import Posterior, draw, draw_at_zero_noise
from tests.support.configs import demo_model
from tests.support.densities import assert_is_density_of, move

KINDS = ["diagonal", "full", "iaf"]
BATCH, UNITS, CONTEXT = 3, 7, 64


def a_posterior(kind, size=3, layers=2):
    """Returns a layer with changed weights, and the parameters of three images."""
    tfk.utils.set_random_seed(0)
    posterior = Posterior(
        demo_model(
            posterior=kind, latent_size=size, posterior_layers=layers, flow_units=UNITS
        )
    )
    layer = posterior.layer()
    move(layer.trainable_variables)
    rng = np.random.default_rng(1)
    return layer, rng.normal(size=[BATCH, posterior.params_size]).astype(np.float32)


def noise_of(samples, size=3):
    rng = np.random.default_rng(2)
    return rng.normal(size=[samples, BATCH, size]).astype(np.float32)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-4)


def softplus(x):
    return np.logaddexp(0, x)


def numpy_normal(kind, params, size):
    """Returns the mean and the Cholesky factor of one image's parameters."""
    loc, scale = params[:size], params[size:]
    if kind == "diagonal":
        return loc, np.diag(softplus(scale) + 1e-5)
    # TFP fills a triangle clockwise, from the corner.
    square = np.concatenate([scale[size:], scale[::-1]]).reshape(size, size)
    return loc, np.tril(square, -1) + np.diag(softplus(np.diag(square)) + 1e-5)


def numpy_weights(network):
    """Returns a network's kernels [Z, H] and [H, 2 Z], biases and context kernels."""
    weights = {w.shape: w for w in network.get_weights()}  # each shape is unique
    outputs = 2 * network.event_shape[0]
    return (
        weights[outputs // 2, UNITS],
        weights[UNITS, outputs],
        weights[UNITS,],
        weights[outputs,],
        weights[CONTEXT, UNITS],
        weights[CONTEXT, outputs],
    )


def numpy_iaf(networks, params, noise):
    """Returns z and log q(z|x) of one noise vector.

    Source: Kingma et al. 2016, algorithm 1.
    """
    size = len(noise)
    loc, scale, context = np.split(params, [size, 2 * size])
    sigma = softplus(scale) + 1e-5
    z = sigma * noise + loc
    log_q = -np.sum(np.log(sigma) + noise**2 / 2 + np.log(2 * np.pi) / 2)
    for network in reversed(networks):
        first, last, first_bias, last_bias, first_context, last_context = numpy_weights(
            network
        )
        hidden = np.maximum(z @ first + context @ first_context + first_bias, 0)
        out = hidden @ last + context @ last_context + last_bias
        shift, gate = out.reshape(size, 2).T
        sigma = expit(gate + 1.5)
        # the next network gets z in reverse order
        z = (sigma * z + (1 - sigma) * shift)[::-1]
        log_q -= np.sum(np.log(sigma))
    return z, log_q


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_a_normal_is_scipys(kind, size):
    layer, params = a_posterior(kind, size)
    posterior, noise = layer(params), noise_of(5, size)
    z, log_prob = draw(posterior, noise)
    samples = posterior.sample(20_000, seed=3).numpy()
    close(draw_at_zero_noise(posterior), posterior.mean())
    for b, image in enumerate(params):
        loc, tril = numpy_normal(kind, image, size)
        normal = stats.multivariate_normal(loc, tril @ tril.T)
        close(z[:, b], loc + noise[:, b] @ tril.T)
        close(log_prob[:, b], normal.logpdf(loc + noise[:, b] @ tril.T))
        close(posterior.log_prob(noise)[:, b], normal.logpdf(noise[:, b]))
        close(draw_at_zero_noise(posterior)[b], loc)
        np.testing.assert_allclose(samples[:, b].mean(axis=0), loc, atol=0.05)
        covariance = np.cov(samples[:, b].T).reshape(size, size)
        np.testing.assert_allclose(covariance, tril @ tril.T, atol=0.1)


def test_an_iaf_is_the_papers_algorithm():
    layer, params = a_posterior("iaf", layers=3)
    noise = noise_of(4)
    z, log_prob = draw(layer(params), noise)
    for k, b in np.ndindex(4, BATCH):
        expected_z, expected = numpy_iaf(layer.networks, params[b], noise[k, b])
        close(z[k, b], expected_z)
        close(log_prob[k, b], expected)
    z_at_zero, _ = numpy_iaf(layer.networks, params[0], np.zeros(3))
    close(draw_at_zero_noise(layer(params))[0], z_at_zero)


def test_an_iafs_masks_hold_after_a_step():
    """Each shift and gate depends on all latents before its own, and on no other."""
    layer, params = a_posterior("iaf")
    with tf.GradientTape() as tape:
        draws = draw(layer(params), noise_of(4))
        loss = tf.reduce_sum(draws.z**2) + tf.reduce_sum(draws.log_prob)
    gradients = tape.gradient(loss, layer.trainable_variables)
    optimizer = tfk.optimizers.Adam(0.1)
    optimizer.apply_gradients(zip(gradients, layer.trainable_variables))
    for network in layer.networks:
        first, last, *_ = numpy_weights(network)
        # input latent, output latent, shift or gate
        paths = (np.abs(first) @ np.abs(last)).reshape(3, 3, 2)
        for which in (0, 1):
            earlier = np.triu(np.ones([3, 3], bool), 1)
            np.testing.assert_array_equal(paths[..., which] > 0, earlier)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_distributions_own_density(kind):
    layer, params = a_posterior(kind)
    z, log_prob = draw(layer(params), noise_of(4))
    # A new distribution and a new tensor, as a bijector caches the noise of its z.
    close(layer(params).log_prob(z.numpy()), log_prob)


@pytest.mark.parametrize("kind", KINDS)
def test_the_jacobian_from_noise_to_z_is_the_densitys(kind):
    layer, params = a_posterior(kind)
    posterior, noise = layer(params), tf.constant(noise_of(1)[0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(noise)
        z, log_prob = draw(posterior, noise[tf.newaxis])
        columns = [tf.reduce_sum(z[0, :, i]) for i in range(3)]
    jacobian = np.stack([tape.gradient(column, noise) for column in columns], axis=1)
    _, log_det = np.linalg.slogdet(jacobian)
    close(log_prob[0], stats.norm.logpdf(noise).sum(axis=-1) - log_det)


@pytest.mark.parametrize("samples", [1, BATCH, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_draws_depend_on_their_own_image_and_noise_alone(kind, samples):
    layer, params = a_posterior(kind)
    noise = noise_of(samples)
    together = draw(layer(params), noise)
    assert together.z.shape == [samples, BATCH, 3]
    assert together.log_prob.shape == [samples, BATCH]
    alone = draw(layer(params[1:2]), noise[-1:, 1:2])
    close(together.z[-1, 1], alone.z[0, 0])
    close(together.log_prob[-1, 1], alone.log_prob[0, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_density_has_mass_1_and_its_samples_moments(kind):
    layer, params = a_posterior(kind, size=2)
    posterior = layer(params[:1])  # q(z|x) of one image: batch [1]
    assert_is_density_of(
        posterior.sample(20_000, seed=4)[:, 0],
        lambda z: posterior.log_prob(z[:, np.newaxis])[:, 0],
    )

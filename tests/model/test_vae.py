"""The VAE's loss and ELBO, compared with closed forms, NumPy and samples."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras as tfk

from model.distributions.posterior import draw
from model.vae import VAE
from tests.support.configs import demo_model
from tests.support.densities import move

tfd = tfp.distributions


@pytest.fixture(params=["dense", "blog"])
def vae(request):
    tfk.utils.set_random_seed(0)
    config = demo_model(
        network=request.param, latent_size=3, base_depth=2, hidden_units=16
    )
    return VAE(config)


@pytest.fixture
def noise():
    return np.random.default_rng(2).normal(size=[12, 5, 3]).astype(np.float32)


def numpy_kl(mean, tril):
    """Returns KL(N(m, S) || N(0, I)) = (tr S + m'm - k - log det S) / 2, in nats."""
    covariance = tril @ np.swapaxes(tril, -1, -2)
    _, logdet = np.linalg.slogdet(covariance)
    trace = np.trace(covariance, axis1=1, axis2=2)
    return 0.5 * (trace + np.sum(mean**2, -1) - mean.shape[-1] - logdet)


def numpy_bernoulli_log_prob(logits, x):
    """Returns log p(x) = sum of x l - log(1 + e^l) over the pixels, in nats."""
    return np.sum(x * logits - np.logaddexp(0, logits), axis=(-3, -2, -1))


def test_a_call_gives_a_distribution_over_images(vae, binary):
    likelihood = vae(binary)
    assert isinstance(likelihood, tfd.Distribution)
    assert likelihood.batch_shape == [12]
    assert likelihood.event_shape == [28, 28, 1]
    assert likelihood.log_prob(binary).shape == [12]


def test_a_call_decodes_one_draw_of_z(vae, binary):
    tfk.utils.set_random_seed(7)
    z = vae.encode(binary).sample()
    tfk.utils.set_random_seed(7)
    logits = vae(binary).distribution.logits_parameter()
    expected = vae.decode(z).distribution.logits_parameter()
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    again = vae(binary).distribution.logits_parameter()
    assert not np.allclose(again, logits)


def test_kl_matches_the_closed_form(vae, binary, noise):
    posterior = vae.encode(binary)
    # The posterior is far from the prior, so that no term is near 0.
    mean, tril = posterior.loc.numpy(), posterior.scale_tril.numpy()
    kl = vae.elbo_terms(binary, noise).kl
    np.testing.assert_allclose(kl, numpy_kl(mean, tril), rtol=1e-4, atol=1e-5)


def test_kl_agrees_with_samples(vae, binary):
    posterior = vae.encode(binary)
    z = posterior.sample(50_000, seed=3)
    sampled = tf.reduce_mean(posterior.log_prob(z) - vae.prior.log_prob(z), axis=0)
    kl = vae.elbo_terms(binary, np.zeros([12, 1, 3], np.float32)).kl
    np.testing.assert_allclose(kl, sampled, atol=0.05)


def test_reconstruction_is_the_mean_over_samples(vae, binary, noise):
    posterior = vae.encode(binary)
    mean, tril = posterior.loc.numpy(), posterior.scale_tril.numpy()
    log_probs = []
    for k in range(5):
        z = mean + np.einsum("bij,bj->bi", tril, noise[:, k])
        logits = vae.decode(z).distribution.logits_parameter().numpy()
        log_probs.append(numpy_bernoulli_log_prob(logits, binary))
    terms = vae.elbo_terms(binary, noise)
    np.testing.assert_allclose(
        terms.reconstruction, np.mean(log_probs, axis=0), rtol=1e-4
    )


def test_noise_gives_samples_of_the_posterior(vae, binary):
    """The covariance of z = loc + L eps is the posterior's."""
    posterior = vae.encode(binary)
    eps = np.random.default_rng(4).normal(size=[20_000, 3]).astype(np.float32)
    z = eps @ posterior.scale_tril[0].numpy().T
    np.testing.assert_allclose(np.cov(z.T), posterior.covariance()[0], atol=0.05)


@pytest.mark.parametrize(
    ("settings", "weight", "kl_counted"),
    [
        ({}, 1.0, lambda kl: kl),
        ({"beta": 0.5}, 1.0, lambda kl: 0.5 * kl),
        ({"beta": 0.5}, 0.2, lambda kl: 0.1 * kl),
        ({"free_bits": 1.2}, 1.0, lambda kl: np.maximum(kl, 1.2)),
        ({"beta": 0.5, "free_bits": 1.2}, 0.2, lambda kl: 0.1 * np.maximum(kl, 1.2)),
    ],
)
def test_the_loss_weighs_the_kl_alone(binary, noise, settings, weight, kl_counted):
    tfk.utils.set_random_seed(0)
    vae = VAE(demo_model(latent_size=3, hidden_units=16, **settings))
    terms = vae.elbo_terms(binary, noise)
    assert terms.kl.numpy().min() < 1.2 < terms.kl.numpy().max()
    expected = kl_counted(terms.kl.numpy()) - terms.reconstruction
    np.testing.assert_allclose(vae.compute_loss(terms, weight), expected, rtol=1e-5)
    np.testing.assert_allclose(terms.elbo(), terms.reconstruction - terms.kl)


def test_the_losses_contain_no_second_kl(vae, binary):
    vae(binary)
    assert vae.losses == []


def test_the_blog_networks_have_the_posts_parameters():
    """The expected number of kernels' and biases' parameters is counted by hand."""
    vae = VAE(demo_model(network="blog", latent_size=16, base_depth=32))

    def layer(size, before, after):
        return size * size * before * after + after

    encoder = (
        layer(5, 1, 32)
        + layer(5, 32, 32)
        + layer(5, 32, 64)
        + layer(5, 64, 64)
        + layer(7, 64, 64)
        + (64 + 1) * (16 + 16 * 17 // 2)  # loc and the lower triangle
    )
    decoder = (
        layer(7, 16, 64)
        + layer(5, 64, 64)
        + layer(5, 64, 64)
        + layer(5, 64, 32)
        + layer(5, 32, 32)
        + layer(5, 32, 32)
        + layer(5, 32, 1)
    )
    assert vae.encoder.count_params() == encoder
    assert vae.decoder.count_params() == decoder


# Each pair of choices that can be combined occurs at least once.
COMBINATIONS = [
    ("standard", "diagonal", "dense", "continuous_bernoulli"),
    ("standard", "full", "blog", "bernoulli"),
    ("standard", "iaf", "conv_residual", "bernoulli"),
    ("mixture", "diagonal", "blog", "bernoulli"),
    ("mixture", "full", "conv_residual", "continuous_bernoulli"),
    ("mixture", "iaf", "dense", "bernoulli"),
    ("vampprior", "diagonal", "conv_residual", "bernoulli"),
    ("vampprior", "full", "dense", "continuous_bernoulli"),
    ("vampprior", "full", "blog", "bernoulli"),
    ("realnvp", "diagonal", "dense", "bernoulli"),
    ("realnvp", "full", "conv_residual", "bernoulli"),
    ("realnvp", "iaf", "blog", "continuous_bernoulli"),
]


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def combined(request):
    """Returns a VAE with one combination of choices, and changed weights."""
    tfk.utils.set_random_seed(0)
    prior, posterior, network, likelihood = request.param
    vae = VAE(
        demo_model(
            network=network,
            latent_size=3,
            base_depth=2,
            hidden_units=16,
            posterior=posterior,
            prior=prior,
            posterior_layers=1,
            prior_components=4,
            prior_layers=2,
            flow_units=8,
            likelihood=likelihood,
        )
    )
    move(vae.trainable_variables, by=0.05)
    return vae


def test_gradients_reach_every_variable(combined, images, noise):
    with tf.GradientTape() as tape:
        loss = combined.compute_loss(combined.elbo_terms(images, noise[:, :1]))
    variables = combined.trainable_variables
    # All variables of the loss are trained, and no others.
    used = {variable.ref() for variable in tape.watched_variables()}
    assert used == {variable.ref() for variable in variables}
    for variable, gradient in zip(variables, tape.gradient(loss, variables)):
        assert gradient is not None, variable.name
        assert np.all(np.isfinite(gradient)), variable.name
        assert np.any(gradient != 0), variable.name


@pytest.mark.parametrize("combined", COMBINATIONS[2:12:3], indirect=True, ids="-".join)
def test_the_log_weights_are_those_of_the_draws(combined, images, noise):
    images, noise = images[:4], noise[:4]
    log_weights = combined.log_weights(images, noise)
    assert log_weights.shape == [4, 5]
    posterior = combined.encode(images)
    z = draw(posterior, noise[np.newaxis, :, 3]).z[0].numpy()
    log_joint = combined.decode(z).log_prob(images) + combined.prior.log_prob(z)
    expected = log_joint - posterior.log_prob(z)
    np.testing.assert_allclose(log_weights[:, 3], expected, rtol=1e-4, atol=1e-3)
    if combined.config.prior != "standard" or combined.config.posterior == "iaf":
        # The KL is sampled: the mean is the estimate of the ELBO.
        elbo = combined.elbo_terms(images, noise).elbo()
        np.testing.assert_allclose(np.mean(log_weights, axis=1), elbo, rtol=1e-5)


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_the_mean_log_weight_is_the_elbo_in_closed_form(binary, posterior):
    tfk.utils.set_random_seed(0)
    vae = VAE(demo_model(latent_size=3, hidden_units=16, posterior=posterior))
    first, second = np.random.default_rng(3).normal(size=[2, 4, 500, 3])
    log_weights = vae.log_weights(binary[:4], first.astype(np.float32)).numpy()
    elbo = vae.elbo_terms(binary[:4], second.astype(np.float32)).elbo()
    error = log_weights.std(axis=1) * np.sqrt(2 / 500)  # the error of both estimates
    assert error.max() < 0.5
    assert np.all(np.abs(log_weights.mean(axis=1) - elbo) < 3.5 * error)


@pytest.mark.parametrize("prior", ["mixture", "realnvp"])
def test_one_log_weight_is_the_one_sample_elbo(binary, noise, prior):
    vae = VAE(demo_model(latent_size=3, hidden_units=16, prior=prior, flow_units=8))
    log_weights = vae.log_weights(binary, noise[:, :1])
    assert log_weights.shape == [12, 1]
    elbo = vae.elbo_terms(binary, noise[:, :1]).elbo()
    np.testing.assert_allclose(log_weights[:, 0], elbo, rtol=1e-6)

"""Training and evaluation steps, compared with the VAE's ELBO and descent by hand."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as tfk

from model.training import steps
from model.training.state import State
from model.vae import VAE
from tests.support.configs import demo_model, demo_train

RATE = 1e-3


@pytest.fixture
def batches(binary):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=[12, 1, 2]).astype(np.float32)
    return [(binary[i : i + 4], noise[i : i + 4]) for i in (0, 4, 8)]


@pytest.fixture
def make():
    def make(**changes):
        tfk.utils.set_random_seed(0)
        vae = VAE(demo_model(latent_size=2, hidden_units=4, beta=3.0))
        config = demo_train(**changes)
        sgd = tfk.optimizers.SGD(RATE)
        return vae, State(vae, sgd, config=config), config

    return make


def take(made, batches, count):
    vae, state, config = made
    strategy = tf.distribute.get_strategy()
    function = steps.build_training(vae, state, strategy=strategy, config=config)
    shapes = ([4, 28, 28, 1], [4, 1, 2])
    signature = tuple(tf.TensorSpec(shape, tf.float32) for shape in shapes)
    data = tf.data.Dataset.from_generator(
        lambda: iter(batches), output_signature=signature
    )
    count_done, loss = function(iter(data), tf.constant(count))
    return int(count_done), float(loss)


def loss_of(vae, images, noise, weight):
    """Returns the mean over the batch of weight * beta * KL - reconstruction."""
    terms = vae.elbo_terms(images, noise)
    return tf.reduce_mean(weight * 3.0 * terms.kl - terms.reconstruction)


@pytest.mark.parametrize("warmup", [0, 4])
def test_steps_descend_the_gradient_of_the_loss(make, batches, warmup):
    expected, *_ = make()
    for step, (images, noise) in enumerate(batches[:2]):
        weight = (step + 1) / warmup if warmup else 1.0
        with tf.GradientTape() as tape:
            loss = loss_of(expected, images, noise, weight)
        gradients = tape.gradient(loss, expected.trainable_variables)
        for variable, gradient in zip(
            expected.trainable_variables, gradients, strict=True
        ):
            variable.assign_sub(RATE * gradient)
    made = make(kl_warmup_steps=warmup)
    count_done, last = take(made, batches, 2)
    assert count_done == 2
    assert last == pytest.approx(float(loss), rel=1e-4)
    assert made[1].steps_done == 2
    for ours, theirs in zip(made[0].get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_the_weight_of_the_kl_term_rises_to_one_and_stays():
    weights = [float(steps._kl_weight(tf.constant(step), 4)) for step in range(6)]
    assert weights == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert steps._kl_weight(tf.constant(0), 0) == 1.0


def test_the_means_of_steps_are_summed(make, batches):
    made = make()
    vae, state, _ = made
    made[1].optimizer.learning_rate = 0.0
    terms = [vae.elbo_terms(*batch) for batch in batches]
    take(made, batches, 3)
    expected = [
        sum(float(np.mean(of.elbo())) for of in terms),
        sum(float(np.mean(of.reconstruction)) for of in terms),
        sum(float(np.mean(of.kl)) for of in terms),
    ]
    assert steps.MEANS == ("elbo", "reconstruction", "kl")
    np.testing.assert_allclose(state.sums, expected, rtol=1e-4)


def test_no_step_follows_a_loss_that_is_not_finite(make, batches):
    broken = (np.full_like(batches[1][0], np.nan), batches[1][1])
    made = make()
    count_done, loss = take(made, [batches[0], broken, batches[2]], 3)
    assert count_done == 2
    assert np.isnan(loss)


def test_the_average_moves_with_each_step(make, batches):
    made = make(ema=0.9)
    first = [v.numpy() for v in made[1].averages]
    take(made, batches, 1)
    rate = 1 - 2 / 11  # 1 - the decay of step 1
    for start, average, weight in zip(
        first, made[1].averages, made[0].trainable_variables, strict=True
    ):
        expected = start + rate * (weight.numpy() - start)
        np.testing.assert_allclose(average, expected, rtol=1e-4, atol=1e-6)


def test_evaluation_averages_over_images_of_weight_one(make, batches):
    vae, *_ = make()
    weights = np.float32([1, 1, 0, 1])
    evaluate = steps.build_evaluation(vae, tf.distribute.get_strategy())
    found = evaluate([(*map(tf.constant, batch), weights) for batch in batches])
    terms = [vae.elbo_terms(*batch) for batch in batches]
    for name, of_batches in {
        "elbo": [of.elbo() for of in terms],
        "reconstruction": [of.reconstruction for of in terms],
        "kl": [of.kl for of in terms],
    }.items():
        counted = np.concatenate([np.asarray(x)[[0, 1, 3]] for x in of_batches])
        assert found[name] == pytest.approx(counted.mean(), rel=1e-5)

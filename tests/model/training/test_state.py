"""The state of a training, compared with averages and choices computed by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as tfk

from model.training.state import CURVES, State
from model.vae import VAE
from tests.support.configs import demo_model, demo_train


@pytest.fixture
def make():
    def make(**changes):
        tfk.utils.set_random_seed(0)
        vae = VAE(demo_model(latent_size=2, hidden_units=4))
        config = demo_train(**{"epochs": 3, **changes})
        return vae, State(vae, tfk.optimizers.Adam(), config=config)

    return make


def fill(variables, value):
    for variable in variables:
        variable.assign(tf.fill(variable.shape, value))


def values(variables):
    """Returns the one value that all elements of the variables have."""
    found = {float(x) for v in variables for x in np.unique(v.numpy())}
    assert len(found) == 1
    return found.pop()


def test_the_average_begins_with_a_short_memory(make):
    """The decay is (1 + t) / (10 + t) after step t, and the configured value later."""
    vae, state = make(ema=0.5)
    weights = vae.trainable_variables
    strategy = tf.distribute.get_strategy()
    fill(state.averages, 0.0)
    expected = 0.0
    for step in (1, 2, 100):
        state.step.assign(step)
        fill(weights, 10.0 * step)
        state.update_averages(strategy)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * 10.0 * step
        assert values(state.averages) == pytest.approx(expected, rel=1e-5)
    with state.use_averages():
        assert values(weights) == pytest.approx(expected, rel=1e-5)
    assert values(weights) == 1000.0
    state.set_final_weights()
    assert values(weights) == pytest.approx(expected, rel=1e-5)


def test_the_weights_come_back_after_an_error(make):
    vae, state = make(ema=0.5)
    fill(vae.trainable_variables, 1.0)
    fill(state.averages, 2.0)
    with pytest.raises(KeyError), state.use_averages():
        raise KeyError
    assert values(vae.trainable_variables) == 1.0


def test_without_an_average_the_last_weights_are_kept(make):
    vae, state = make()
    assert (state.averages, state.best) == ([], [])
    fill(vae.trainable_variables, 3.0)
    state.update_averages(tf.distribute.get_strategy())
    with state.use_averages():
        assert values(vae.trainable_variables) == 3.0
    state.keep_best(-1.0, epoch=1)
    assert int(state.best_epoch) == 0
    state.set_final_weights()
    assert values(vae.trainable_variables) == 3.0


def test_the_best_weights_are_kept_with_patience(make):
    vae, state = make(patience=2, ema=0.5)
    for epoch, elbo in enumerate([-90.0, -80.0, -80.0, -85.0, math.nan], start=1):
        fill(vae.trainable_variables, float(epoch))
        state.keep_best(elbo, epoch)
    assert float(state.best_elbo) == -80.0
    assert int(state.best_epoch) == 2  # the first of two that are equal
    state.set_final_weights()
    assert values(vae.trainable_variables) == 2.0


def test_each_epoch_has_a_row_of_the_history(make):
    _, state = make()
    assert np.isnan(state.history.numpy()).all()
    row = {curve: float(i) for i, curve in enumerate(CURVES)}
    state.record_epoch(2, row)
    history = state.history.numpy()
    assert history.shape == (3, len(CURVES))
    np.testing.assert_array_equal(history[1], np.arange(len(CURVES)))
    assert np.isnan(history[[0, 2]]).all()


def test_weights_that_are_not_finite_are_found(make):
    vae, state = make()
    assert state.is_finite()
    last = vae.trainable_variables[-1]
    for value in (np.nan, np.inf):
        broken = np.zeros(last.shape, np.float32)
        broken.flat[-1] = value
        last.assign(broken)
        assert not state.is_finite()


def test_the_sum_of_weights_is_of_magnitudes(make):
    vae, state = make()
    for sign, weight in enumerate(vae.weights):
        weight.assign(tf.fill(weight.shape, -2.0 if sign % 2 else 2.0))
    count = sum(int(np.prod(weight.shape)) for weight in vae.weights)
    assert state.sum_of_weights() == pytest.approx(2.0 * count)


def test_a_checkpoint_has_all_that_training_changes(make):
    _, state = make(ema=0.5, patience=1)
    state.step.assign(7)
    assert state.steps_done == 7
    names = {id(variable) for variable in state.variables()}
    parts = (state.weights, state.averages, state.best, state.optimizer.variables)
    counters = (state.step, state.sums, state.best_elbo, state.best_epoch)
    every = [*(v for part in parts for v in part), *counters, state.history]
    assert names == {id(variable) for variable in every}


def test_training_begins_at_step_0_with_no_sums_and_no_history(make):
    _, state = make()
    assert state.steps_done == 0
    assert state.sums.numpy().tolist() == [0.0, 0.0, 0.0]
    assert state.best_epoch == 0
    assert state.best_elbo == -math.inf
    assert np.isnan(state.history.numpy()).all()
    assert state.history.shape[0] == 3  # one row per epoch

import logging
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as tfk

from model import devices, train
from model.config import ModelConfig, TrainConfig
from model.vae import VAE
from tests.test_data import write

MODEL = ModelConfig(latent_size=3, hidden_units=16)


def one_step(replicas, images, noise):
    """Returns the ELBO and the gradients of one step on so many replicas.

    With SGD at rate 1 the change of the weights is the gradient, clipped or not.
    """
    strategy = devices.strategy(replicas)
    assert strategy.num_replicas_in_sync == replicas
    tfk.utils.set_random_seed(0)
    with strategy.scope():
        vae = VAE(MODEL)
        vae.compile(optimizer=tfk.optimizers.SGD(learning_rate=1.0))
        vae(images[:1])
    before = vae.get_weights()
    batch = tf.data.Dataset.from_tensors((images, noise))
    history = vae.fit(batch, verbose=0)
    gradients = [old - new for old, new in zip(before, vae.get_weights())]
    return history.history["elbo"][0], gradients


def test_two_replicas_give_the_loss_and_gradients_of_one(binary):
    noise = np.random.default_rng(2).normal(size=[12, 1, 3]).astype(np.float32)
    elbo_of_one, gradients_of_one = one_step(1, binary, noise)
    elbo_of_two, gradients_of_two = one_step(2, binary, noise)
    assert elbo_of_two == pytest.approx(elbo_of_one, rel=1e-5)
    assert max(np.abs(g).max() for g in gradients_of_one) > 1  # not all zeros
    for one, two in zip(gradients_of_one, gradients_of_two):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Files of 200 images of one noisy shape each: something to learn."""
    rng = np.random.default_rng(0)
    images = np.zeros([200, 28, 28, 1], np.float32)
    for image in images:
        top = rng.integers(4, 16)
        image[top : top + 8, 6:22] = 1.0
    folder = tmp_path_factory.mktemp("digits")
    write(folder / "a.gz", images, images)
    return [str(folder / "*.gz")]


@pytest.mark.parametrize("replicas", [1, 2])
def test_training_raises_the_elbo(digits, replicas, caplog):
    config = TrainConfig(
        epochs=4, batch_size=20, learning_rate=1e-2, warmup_steps=2, replicas=replicas
    )
    with caplog.at_level(logging.INFO, "model.train"):
        train.train(MODEL, config, digits, digits, evaluation_seed=0)
    reports = [r.progress for r in caplog.records if hasattr(r, "progress")]
    assert [(r.epoch, r.step, r.steps) for r in reports] == [
        (1, 10, 40),
        (2, 20, 40),
        (3, 30, 40),
        (4, 40, 40),
    ]
    assert reports[-1].elbo > reports[0].elbo + 100
    assert reports[-1].eval_elbo > -200
    assert reports[-1].seconds_left == 0
    assert reports[-1].images_per_second > 0


def test_the_same_seed_gives_the_same_weights(digits):
    config = TrainConfig(epochs=1, batch_size=20, seed=5, replicas=1)
    weights = [
        train.train(MODEL, config, digits, digits, 0).get_weights() for _ in range(2)
    ]
    for one, two in zip(*weights):
        np.testing.assert_array_equal(one, two)


def test_too_few_images_are_named(digits):
    with pytest.raises(ValueError, match=r"batch_size \(256\) images, got 200"):
        train.train(MODEL, TrainConfig(replicas=1), digits, digits, 0)


def test_an_elbo_that_is_no_number_stops_training(digits):
    config = TrainConfig(
        epochs=3, batch_size=20, learning_rate=1e30, clip_norm=None, replicas=1
    )
    with pytest.raises(FloatingPointError, match=r"lower train.learning_rate \(1e\+30"):
        train.train(MODEL, config, digits, digits, 0)


def rates(config, steps):
    schedule = train.optimizer(config, steps)._learning_rate
    return [float(schedule(step)) for step in range(steps + 1)]


def test_the_rate_warms_up_and_decays_along_a_cosine():
    config = TrainConfig(learning_rate=2e-3, schedule="cosine", warmup_steps=10)
    got = rates(config, 110)
    warm = 2e-3 * np.arange(10) / 10
    decayed = 2e-3 * (1 + np.cos(np.pi * np.arange(101) / 100)) / 2
    np.testing.assert_allclose(got, [*warm, *decayed], atol=1e-9)


def test_a_constant_rate_is_constant():
    config = TrainConfig(learning_rate=1e-3, schedule="constant", warmup_steps=0)
    np.testing.assert_allclose(rates(config, 50), 1e-3, rtol=1e-6)


def test_too_few_devices_are_named():
    """In a process of its own, where TensorFlow has started with one."""
    code = (
        "import tensorflow as tf; tf.constant(1.0)\n"
        "from model import devices; devices.strategy(2)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert (
        "RuntimeError: expected 2 logical CPU devices, but TensorFlow has started "
        "with 1: set them before anything else uses TensorFlow"
    ) in result.stderr

"""The training loop: losses, learning rate, weight decay, early stop, warm start."""

import dataclasses
import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras as tfk

from model import data, export
from model.training import devices, loop, steps, warm_start
from model.training.state import State
from model.vae import VAE
from tests.support import forks, training
from tests.support.configs import demo_model, demo_train
from tests.support.training import MODEL

tfd = tfp.distributions


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    training.write_digits(folder)
    return folder


def test_replicas_follow_the_same_losses(digits):
    one, two = (training.losses(digits, replicas, 20) for replicas in (1, 2))
    # A process of its own, because TensorFlow accepts only one group size per process
    # (tensorflow/tensorflow#50926).
    process = forks.Fork(training.print_losses, digits, 4, 20)
    four = json.loads(process.stdout.read().splitlines()[-1])
    assert process.wait() == 0
    # training has changed the loss enough to show differences
    assert one[-1] < 0.8 * one[0]
    np.testing.assert_allclose(two, one, rtol=1e-4)
    np.testing.assert_allclose(four, one, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "done", "kl_weight"),
    [({}, 0, 1.0), ({"beta": 0.3}, 0, 0.3), ({}, 4, 0.5)],
)
def test_one_step_descends_the_hand_written_loss(digits, settings, done, kl_weight):
    """The test computes loss and gradient from the distributions, for SGD's step."""
    model_config = dataclasses.replace(MODEL, **settings)
    config = demo_train(batch_size=20, kl_warmup_steps=10 if done else 0)
    strategy = devices.create_strategy(1)
    with strategy.scope():
        vae = VAE(model_config)
        state = State(vae, tfk.optimizers.SGD(learning_rate=1.0), config=config)
    state.step.assign(done)
    images = data.ImageFile([str(digits / "*.gz")], str(digits))
    batches = data.make_training_batches(images, config, latent_size=3)
    pixels, noise = next(iter(batches))
    before = [variable.numpy() for variable in vae.trainable_variables]
    with tf.GradientTape() as tape:
        posterior = vae.encode(pixels)
        z = posterior.loc + tf.linalg.matvec(posterior.scale_tril, noise[:, 0])
        kl = tfd.kl_divergence(posterior, vae.prior)
        log_prob = vae.decode(z).log_prob(pixels)
        loss = tf.reduce_mean(kl_weight * kl - log_prob)
    gradients = tape.gradient(loss, vae.trainable_variables)

    take = steps.build_training(vae, state, strategy=strategy, config=config)
    steps_done, of_step = take(
        iter(devices.distribute_batches(strategy, batches)), tf.constant(1)
    )

    assert steps_done == 1
    assert state.step.numpy() == done + 1
    assert of_step.numpy() == pytest.approx(loss.numpy(), rel=1e-5)
    # the ELBO does not depend on beta and the warm-up
    elbo = tf.reduce_mean(log_prob - kl)
    np.testing.assert_allclose(state.sums[0], elbo, rtol=1e-5)
    # the gradients are not all zero
    assert max(np.abs(g).max() for g in gradients) > 0.5
    for old, gradient, variable in zip(before, gradients, vae.trainable_variables):
        np.testing.assert_allclose(old - variable, gradient, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("replicas", [1, 2])
def test_training_raises_the_elbo(digits, tmp_path, replicas, caplog):
    config = demo_train(
        epochs=4, batch_size=20, learning_rate=1e-2, warmup_steps=2, replicas=replicas
    )
    with caplog.at_level(logging.INFO, "model.training.progress"):
        loop.train(
            MODEL, config, files=training.files(digits, tmp_path), evaluation_seed=0
        )
    reports = [r.progress for r in caplog.records if hasattr(r, "progress")]
    assert [(r.epoch, r.step, r.steps) for r in reports] == [
        (1, 10, 40),
        (2, 20, 40),
        (3, 30, 40),
        (4, 40, 40),
    ]
    assert reports[-1].elbo > reports[0].elbo + 100
    assert reports[-1].eval_elbo > reports[0].eval_elbo + 100
    assert reports[-1].seconds_left == 0
    assert reports[-1].images_per_second > 0


def test_too_few_images_are_named(digits, tmp_path):
    with pytest.raises(loop.TrainingError, match=r"batch_size \(256\) images, got 200"):
        loop.train(
            MODEL,
            demo_train(replicas=1),
            files=training.files(digits, tmp_path),
            evaluation_seed=0,
        )


def test_an_elbo_that_is_not_finite_stops_training(digits, tmp_path):
    config = demo_train(
        epochs=3,
        batch_size=20,
        learning_rate=1e30,
        schedule="constant",
        warmup_steps=0,
        clip_norm=None,
        replicas=1,
    )
    message = (
        r"the loss is (nan|inf) at step [23] of 30, at learning rate 1e\+30: lower "
        r"train.learning_rate \(1e\+30\) or train.clip_norm \(None\) and train again "
        r"from the start; the last good checkpoint: none"
    )
    with pytest.raises(loop.TrainingError, match=message):
        loop.train(
            MODEL, config, files=training.files(digits, tmp_path), evaluation_seed=0
        )


def test_an_eval_elbo_that_is_not_finite_stops_training(digits, tmp_path):
    """The first loss is a number; the weights after the first step give NaN."""
    config = demo_train(
        epochs=3, batch_size=200, learning_rate=1e30, clip_norm=None, replicas=1
    )
    message = r"the eval split's ELBO is (nan|-inf) after step 1, at learning rate "
    with pytest.raises(loop.TrainingError, match=message):
        loop.train(
            MODEL, config, files=training.files(digits, tmp_path), evaluation_seed=0
        )


def rates(config, steps):
    schedule = loop.create_optimizer(config, steps)._learning_rate
    return [float(schedule(step)) for step in range(steps + 1)]


@pytest.mark.parametrize(("decay", "kept"), [(0.0, 1.0), (0.5, 1 - 0.1 * 0.5)])
def test_the_weights_of_kernels_decay_and_no_others(decay, kept):
    """Loshchilov & Hutter 2019, algorithm 2, line 12, for a gradient of zero."""
    config = demo_train(
        learning_rate=0.1, schedule="constant", warmup_steps=0, weight_decay=decay
    )
    names = ("dense/kernel:0", "dense/bias:0", "pseudo_images:0", "residual/scale:0")
    variables = [tf.Variable([1.0, -2.0], name=name[:-2]) for name in names]
    assert [variable.name for variable in variables] == list(names)
    step = [(tf.zeros_like(variable), variable) for variable in variables]
    loop.create_optimizer(config, 100).apply_gradients(step)
    kernel, *others = [variable.numpy() for variable in variables]
    np.testing.assert_allclose(kernel, [kept, -2.0 * kept], rtol=1e-6)
    for other in others:
        np.testing.assert_array_equal(other, [1.0, -2.0])


def test_the_rate_warms_up_and_decays_along_a_cosine():
    config = demo_train(learning_rate=2e-3, schedule="cosine", warmup_steps=10)
    got = rates(config, 110)
    warm = 2e-3 * np.arange(10) / 10
    decayed = 2e-3 * (1 + np.cos(np.pi * np.arange(101) / 100)) / 2
    np.testing.assert_allclose(got, [*warm, *decayed], atol=1e-9)


def test_a_constant_rate_is_constant():
    config = demo_train(learning_rate=1e-3, schedule="constant", warmup_steps=0)
    np.testing.assert_allclose(rates(config, 50), 1e-3, rtol=1e-6)


@pytest.fixture
def strategy():
    return devices.create_strategy(1)


@pytest.fixture
def state(strategy):
    config = demo_train(ema=0.9, patience=3)
    with strategy.scope():
        vae = VAE(demo_model(latent_size=2, hidden_units=4))
        return State(vae, tfk.optimizers.Adam(), config=config)


def test_the_average_is_exponential_with_a_short_memory_at_first(state, strategy):
    bias = state.weights[1]
    average, rng = bias.numpy(), np.random.default_rng(0)
    for step in range(1, 101):
        value = rng.normal(size=bias.shape).astype(np.float32)
        bias.assign(value)
        state.step.assign(step)
        state.update_averages(strategy)
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * value
    np.testing.assert_allclose(state.averages[1], average, rtol=1e-4, atol=1e-6)
    last = bias.numpy()
    with state.use_averages():
        np.testing.assert_allclose(bias, average, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(bias, last)


def test_the_best_weights_are_kept(state):
    weight = state.weights[0]
    for epoch, elbo in enumerate([-120.0, -100.0, -110.0], start=1):
        weight.assign(np.full(weight.shape, epoch))
        state.keep_best(elbo, epoch)
    assert state.best_epoch.numpy() == 2
    state.set_final_weights()
    np.testing.assert_array_equal(weight, np.full(weight.shape, 2))


def test_training_stops_when_the_eval_elbo_gets_no_better(digits, tmp_path, caplog):
    """The learning rate is so large that an early epoch is the best."""
    # float32, because the weights become so large that in bfloat16, where processors
    # have it, this evaluation and the one in the training graph differ by 0.3%.
    config = demo_train(
        epochs=50,
        batch_size=20,
        learning_rate=0.3,
        patience=2,
        replicas=1,
        precision="float32",
    )
    with caplog.at_level(logging.INFO, "model.training.progress"):
        trained = loop.train(
            MODEL, config, files=training.files(digits, tmp_path), evaluation_seed=0
        )
    elbos = [r.progress.eval_elbo for r in caplog.records if hasattr(r, "progress")]
    best = int(np.argmax(elbos)) + 1
    assert len(elbos) == best + 2 < 50
    batches = data.make_evaluation_batches(
        [str(digits / "*.gz")], "bits", batch_size=20, latent_size=3, samples=1, seed=0
    )
    terms = [trained.vae.elbo_terms(x, noise).elbo() for x, noise, _ in batches]
    assert np.mean(terms) == pytest.approx(max(elbos), rel=1e-4)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Returns the folder of a served model, and the model's weights."""
    vae = VAE(MODEL)
    folder = str(tmp_path_factory.mktemp("served") / "1")
    export.export(vae, folder, samples=1, seed=0)
    return folder, vae.get_weights()


def test_a_warm_start_has_the_served_weights(served):
    folder, weights = served
    vae = VAE(MODEL)
    assert (
        warm_start.load_weights(vae, folder)
        == f"warm start: with the weights of {folder}"
    )
    for ours, theirs in zip(vae.get_weights(), weights):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"hidden_units": 8},
            "the networks differ: variable 0 of the served one has shape [784, 16], "
            "this one's [784, 8]",
        ),
        (
            {"prior": "mixture"},
            "the networks differ: the served model has 22 variables, this one 25",
        ),
    ],
)
def test_another_network_starts_cold_with_the_reason(served, changes, why):
    vae = VAE(dataclasses.replace(MODEL, **changes))
    before = vae.get_weights()
    assert warm_start.load_weights(vae, served[0]) == f"cold start: {why}"
    for old, new in zip(before, vae.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_no_model_starts_cold(tmp_path):
    assert warm_start.load_weights(VAE(MODEL), str(tmp_path / "none")) == (
        "cold start: nothing is served"
    )
    message = warm_start.load_weights(VAE(MODEL), str(tmp_path))
    assert message.startswith(f"cold start: {tmp_path} is no model of this pipeline (")


def test_a_served_model_that_cannot_be_read_starts_nothing(tmp_path):
    """A cold start would give another model, which the cache would keep."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        warm_start.load_weights(VAE(MODEL), str(tmp_path / "file" / "model"))


def test_too_few_devices_are_named():
    """The test is a process of its own, in which TensorFlow has one device."""
    code = (
        "import tensorflow as tf; tf.constant(1.0)\n"
        "from model.training import devices; devices.create_strategy(2)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert (
        "DeviceError: expected 2 logical CPU devices, but TensorFlow has started "
        "with 1: set them before anything else uses TensorFlow"
    ) in result.stderr

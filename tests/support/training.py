"""Small trainings, for tests in this process and in forks."""

import model  # noqa: F401, isort: skip, chooses Keras 2 before TensorFlow is imported

import json
import logging
import pathlib
import sys

import numpy as np
import tensorflow as tf
import tf_keras as tfk

from model import data
from model.training import devices, loop, steps
from model.training.state import State
from model.vae import VAE
from tests.support.configs import demo_model, demo_train
from tests.support.transformed import write

MODEL = demo_model(latent_size=3, hidden_units=16)
MODELS = {
    "dense": MODEL,
    "conv_residual": demo_model(
        network="conv_residual",
        latent_size=4,
        base_depth=4,
        hidden_units=16,
        posterior="diagonal",
        prior="realnvp",
        prior_layers=2,
        flow_units=8,
    ),
}


def write_digits(folder: pathlib.Path) -> None:
    """Writes 200 images of one shape at several heights, which a model can learn."""
    rng = np.random.default_rng(0)
    images = np.zeros([200, 28, 28, 1], np.float32)
    for image in images:
        top = rng.integers(4, 16)
        image[top : top + 8, 6:22] = 1.0
    write(folder / "a.gz", images, images)


def files(folder: pathlib.Path, scratch: pathlib.Path, **changes) -> loop.Files:
    """Returns the files of a training on a folder's images."""
    pattern = [str(folder / "*.gz")]
    return loop.Files(train=pattern, eval=pattern, scratch=str(scratch), **changes)


def losses(folder: pathlib.Path, replicas: int, count: int) -> list[float]:
    """Trains `count` steps on replicas from fixed weights; returns their losses."""
    config = demo_train(
        batch_size=24, learning_rate=1e-2, weight_decay=0.5, replicas=replicas, ema=0.9
    )
    strategy = devices.create_strategy(replicas)
    images = data.ImageFile([str(folder / "*.gz")], str(folder))
    tfk.utils.set_random_seed(0)
    with strategy.scope():
        vae = VAE(MODEL)
        state = State(vae, loop.create_optimizer(config, 100), config=config)
    take = steps.build_training(vae, state, strategy=strategy, config=config)
    batches = data.make_training_batches(images, config, latent_size=MODEL.latent_size)
    iterator = iter(devices.distribute_batches(strategy, batches))
    return [float(take(iterator, tf.constant(1))[1]) for _ in range(count)]


def print_losses(folder: pathlib.Path, replicas: int, count: int) -> None:
    """Prints the result of `losses` as JSON."""
    print(json.dumps(losses(folder, replicas, count)), flush=True)


def fit(
    folder: pathlib.Path, name: str, network: str, epochs: int, checkpoints: str
) -> None:
    """Trains a model and saves its weights in a file of the folder."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    config = demo_train(
        epochs=epochs,
        batch_size=20,
        learning_rate=1e-2,
        kl_warmup_steps=100,
        ema=0.9,
        patience=50,
        checkpoint_minutes=0.001,
    )
    of_training = files(folder, folder / f"scratch-{name}", checkpoints=checkpoints)
    trained = loop.train(MODELS[network], config, files=of_training, evaluation_seed=0)
    if devices.is_chief(trained.strategy):
        np.savez(folder / f"weights-{name}.npz", *trained.vae.get_weights())
    print("trained", flush=True)

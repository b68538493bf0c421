"""The process of one contender in a race: `python -m tests.benchmarks.contender JSON`.

First prints the setup that it runs with. For each line on stdin, it then trains for
SECONDS and prints images/s.
"""

import json
import os
import sys
import time
from collections.abc import Callable

from tests.benchmarks.race import Contender

BATCH, SECONDS = 256, 4.0  # batch size of the post's recipe; length of a turn
_IMAGES = 50_000  # number of images in the input pipeline
_LATER = 100_000  # steps of the learning-rate schedule; no training reaches its end


def posts() -> tuple[Callable[[], object], int, str]:
    """Returns a training step of the post's recipe, its batch size and precision."""
    from tests.benchmarks import blog_recipe

    step = blog_recipe.compiled().make_train_function()
    batches = iter(_batches(BATCH))
    return lambda: step(batches)["loss"].numpy(), BATCH, "float32"


def ours(contender: Contender) -> tuple[Callable[[], object], int, str]:
    """Returns a training step of this project, its batch size and precision."""
    import tensorflow as tf

    from model.config import ModelConfig, TrainConfig
    from model.networks import precision
    from model.training import devices, loop, steps
    from model.training.state import State
    from model.vae import VAE

    config = TrainConfig(**contender.train)
    if contender.what == "steps":
        strategy = devices.create_strategy(config.replicas)
    else:
        strategy = tf.distribute.get_strategy()  # the default: none
    policy = precision.choose_policy(config)
    tf.random.set_seed(0)  # which deterministic ops insist on
    with strategy.scope():
        vae = VAE(ModelConfig(**contender.model), policy)
        state = State(vae, loop.create_optimizer(config, _LATER), config=config)
    take = steps.build_training(vae, state, strategy=strategy, config=config)
    data = _batches(config.batch_size, vae.config.latent_size)
    batches = iter(devices.distribute_batches(strategy, data))
    one = tf.constant(1)
    return lambda: take(batches, one)[1].numpy(), config.batch_size, policy


def input_alone(contender: Contender) -> tuple[Callable[[], object], int, str]:
    """Returns a function that makes one batch, its size, and a label of the setup."""
    from model.config import ModelConfig, TrainConfig
    from tests.benchmarks import input as input_pipeline

    config = TrainConfig(**contender.train)
    latent_size = ModelConfig(**contender.model).latent_size
    batches = input_pipeline.batches(_IMAGES, latent_size, config)
    return lambda: next(batches), config.batch_size, "the input pipeline alone"


def _batches(size: int, latent_size: int | None = None):
    """Returns a data set that repeats one batch, so that only steps are measured."""
    import tensorflow as tf

    images = tf.cast(tf.random.uniform([size, 28, 28, 1]) < 0.5, tf.float32)
    if latent_size is None:
        batch = (images, images)
    else:
        batch = (images, tf.random.normal([size, 1, latent_size]))
    return tf.data.Dataset.from_tensors(batch).repeat()


def _setup(precision: str) -> str:
    from tensorflow.python.framework import test_util

    onednn = "on" if test_util.IsMklEnabled() else "off"
    threads = len(os.sched_getaffinity(0))
    return f"{precision}, oneDNN {onednn}, {threads} threads"


def main() -> None:
    """Prints the setup, and then one turn's images/s for each line on stdin."""
    contender = Contender(**json.loads(sys.argv[1]))
    if contender.model is None:
        step, batch, precision = posts()
    else:
        kind = input_alone if contender.what == "input" else ours
        step, batch, precision = kind(contender)
    step()  # traces the function
    step()
    print(_setup(precision), flush=True)
    for _ in sys.stdin:
        started, steps = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < SECONDS:
            step()
            steps += 1
        print(steps * batch / elapsed, flush=True)


if __name__ == "__main__":
    main()

"""`make bench`: images/s of a training step, by network, as ratios to a baseline.

The baseline is the post's recipe as published. All are measured in one run, in turns;
medians are printed. Compare the ratios: the images/s are the machine's.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from model.config import ModelConfig, TrainConfig
from model.train import optimizer
from model.vae import VAE
from tests.benchmarks import blog_recipe

BASELINE, NETWORKS = "the post's", ("blog", "dense")
BATCH, TURNS, SECONDS = 256, 5, 4.0


def training_step(network: str, images: tf.Tensor) -> Callable[[], object]:
    """Returns a function that takes one training step of ours."""
    vae = VAE(ModelConfig(network=network))
    vae.compile(optimizer=optimizer(TrainConfig(), 100_000))
    step = tf.function(vae.train_step, autograph=False)
    noise = tf.random.stateless_normal([BATCH, 1, 16], seed=[0, 0])
    return lambda: step((images, noise))["elbo"].numpy()


def posts_training_step(images: tf.Tensor) -> Callable[[], object]:
    """Returns a function that takes one training step of the post's, as `fit` does."""
    vae = blog_recipe.compiled()
    step = vae.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors((images, images)).repeat())
    return lambda: step(batches)["loss"].numpy()


def images_per_second(step: Callable[[], object]) -> float:
    """Runs steps for SECONDS and returns images/s."""
    started, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < SECONDS:
        step()
        steps += 1
    return steps * BATCH / elapsed


def main() -> None:
    """Measures and prints."""
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 2, [BATCH, 28, 28, 1]), tf.float32)
    steps = {BASELINE: posts_training_step(images)}
    steps |= {network: training_step(network, images) for network in NETWORKS}
    for step in steps.values():
        step()  # traces
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(TURNS):
        for name, step in steps.items():
            speeds[name].append(images_per_second(step))
        print(f"turn {turn + 1} of {TURNS}", flush=True)
    baseline = statistics.median(speeds[BASELINE])
    print(f"training step, batch {BATCH}, float32, median of {TURNS} turns:")
    for name, measured in speeds.items():
        median = statistics.median(measured)
        ratio = median / baseline
        print(f"{name:10} {median:8,.0f} images/s {ratio:6.2f} x {BASELINE}")


if __name__ == "__main__":
    main()

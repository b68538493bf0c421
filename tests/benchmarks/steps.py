"""`make bench`: images/s of a training step, by network, as ratios to a baseline.

The baseline is the blog's networks. All are measured in one run, in turns; medians are
printed. Compare the ratios: the images/s are the machine's.
"""

import statistics
import time

import numpy as np
import tensorflow as tf

from model.config import ModelConfig, TrainConfig
from model.train import optimizer
from model.vae import VAE

BASELINE, NETWORKS = "blog", ("blog", "dense")
BATCH, TURNS, SECONDS = 256, 5, 4.0


def training_step(network: str):
    """Returns a function that takes one training step on (images, noise)."""
    vae = VAE(ModelConfig(network=network))
    vae.compile(optimizer=optimizer(TrainConfig(), 100_000))
    return tf.function(vae.train_step, autograph=False)


def images_per_second(step, batch) -> float:
    """Runs steps for SECONDS and returns images/s."""
    started, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < SECONDS:
        step(batch)["elbo"].numpy()
        steps += 1
    return steps * BATCH / elapsed


def main() -> None:
    """Measures and prints."""
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 2, [BATCH, 28, 28, 1]), tf.float32)
    batch = images, tf.constant(rng.normal(size=[BATCH, 1, 16]), tf.float32)
    steps = {network: training_step(network) for network in NETWORKS}
    for step in steps.values():
        step(batch)  # traces
    speeds: dict[str, list[float]] = {network: [] for network in NETWORKS}
    for turn in range(TURNS):
        for network, step in steps.items():
            speeds[network].append(images_per_second(step, batch))
        print(f"turn {turn + 1} of {TURNS}", flush=True)
    baseline = statistics.median(speeds[BASELINE])
    print(f"training step, batch {BATCH}, float32, median of {TURNS} turns:")
    for network, measured in speeds.items():
        median = statistics.median(measured)
        print(f"{network:8} {median:8,.0f} images/s {median / baseline:6.2f} x blog")


if __name__ == "__main__":
    main()

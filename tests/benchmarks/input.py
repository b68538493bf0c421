"""The peak memory of the input pipeline, for few and for ten times as many images.

`python -m tests.benchmarks.input IMAGES` writes IMAGES images, makes batches of them
as training does, and prints the peak memory of its process in MB.
"""

import model  # noqa: F401, isort: skip, chooses Keras 2 before TensorFlow is imported

import os
import pathlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np

from model import data
from model.config import TrainConfig
from tests.support.configs import demo_train
from tests.support.transformed import write

_SHARD, _BATCHES = 2_500, 1_000


def batches(images: int, latent_size: int, config: TrainConfig) -> Iterator:
    """Returns training batches of random images.

    Args:
      images: number of images, a multiple of 2,500.
      latent_size: size of the noise in each batch.
      config: settings of the batches.
    """
    with tempfile.TemporaryDirectory() as folder:
        shard = pathlib.Path(folder, "shard-0.gz")
        pixels = np.random.default_rng(0).integers(0, 256, [_SHARD, 28, 28, 1]) / 255.0
        write(shard, pixels.astype(np.float32), pixels > 0.5)
        for number in range(1, images // _SHARD):
            os.link(shard, pathlib.Path(folder, f"shard-{number}.gz"))
        file = data.ImageFile([f"{folder}/*.gz"], folder)
    assert file.count == images
    return iter(data.make_training_batches(file, config, latent_size=latent_size))


def peak_mb(images: int) -> float:
    """Returns the peak memory, in MB, of a process that makes batches of images."""
    command = [sys.executable, "-m", "tests.benchmarks.input", str(images)]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(result.stdout)


def main(few: int = 25_000) -> None:
    """Measures and prints the peak memory for few images and for ten times as many."""
    of_few, of_many = peak_mb(few), peak_mb(10 * few)
    print(
        f"The input pipeline's peak memory: {of_few:,.1f} MB for {few:,} images; "
        f"{of_many / of_few:.2f} x that for {10 * few:,}",
        flush=True,
    )


def _make(images: int) -> None:
    """Makes batches of random images, and frees them before the process ends."""
    made = batches(images, 16, demo_train())
    for _ in range(_BATCHES):
        next(made)


if __name__ == "__main__":
    _make(int(sys.argv[1]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)

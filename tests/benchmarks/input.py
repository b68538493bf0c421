"""The input pipeline alone: images/s and memory, at one and at ten times the images.

`python -m tests.benchmarks.input IMAGES` writes so many, reads them as training does,
and prints a line of JSON: images, images/s of batches, and the peak memory in MB.
"""

import model  # noqa: F401, isort: skip, chooses Keras 2 before TensorFlow is imported

import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from model import data
from model.config import TrainConfig
from tests.transformed import write

SHARD, TIMES, SECONDS = 2_500, 10, 5.0


def write_shard(path: pathlib.Path) -> None:
    """Writes SHARD images of noise as transformed examples."""
    images = np.random.default_rng(0).integers(0, 256, [SHARD, 28, 28, 1]) / 255.0
    write(path, images.astype(np.float32), images > 0.5)


def measure(images: int) -> dict[str, float]:
    """Returns how fast and with how much memory so many images become batches."""
    config = TrainConfig(batch_size=256)
    with tempfile.TemporaryDirectory() as folder:
        shard = pathlib.Path(folder, "shard-0.gz")
        write_shard(shard)
        for number in range(1, images // SHARD):
            os.link(shard, pathlib.Path(folder, f"shard-{number}.gz"))
        file = data.ImageFile([f"{folder}/*.gz"], folder)
        batches = iter(data.training_batches(file, 16, config))
        next(batches)  # traces
        started, count = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < SECONDS:
            next(batches)
            count += config.batch_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"images": file.count, "images_per_second": count / elapsed, "peak_mb": peak}


def in_a_process_of_its_own(images: int) -> dict[str, float]:
    """Returns what `measure` says in a new process, whose peak is its own."""
    command = [sys.executable, "-m", "tests.benchmarks.input", str(images)]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))

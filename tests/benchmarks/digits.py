"""The images of `time_to_115`, the same for the post's recipe and for this project."""

import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from components.datasets import prepare
from model import fixed_noise
from tests.benchmarks.clock import ARRAYS, SEED, TEST, TRAIN
from tests.support import transformed


def write(dataset: str, source: str, data_dir: str, folder: pathlib.Path) -> None:
    """Writes a data set's images in the formats of both recipes.

    The files TRAIN and TEST have the examples that Transform writes for each split. The
    file ARRAYS has `train`, uint8 [N, 28, 28, 1], and `test`, the test split's bits.

    Args:
      dataset, source, data_dir: the arguments of `prepare`.
      folder: folder of the files.
    """
    name = prepare.prepare(dataset, source, data_dir=data_dir).name
    arrays = {}
    for split, file in (("train", TRAIN), ("test", TEST)):
        examples = tfds.load(name, split=split, data_dir=data_dir, download=False)
        pixels = np.stack([example["image"] for example in tfds.as_numpy(examples)])
        images = pixels.astype(np.float32) / 255.0
        bits = fixed_noise.binarize(tf.constant(images), SEED).numpy().astype(np.uint8)
        arrays[split] = pixels if split == "train" else bits
        transformed.write(folder / file, images, bits)
    np.savez(folder / ARRAYS, **arrays)

"""The input pipelines of training and evaluation: transformed examples -> batches."""

import functools
import hashlib
import math
import os
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from model import fixed_noise
from model.config import IMAGE_SHAPE, TrainConfig
from model.examples import PIXELS, read_examples

_READ = 1024  # images decoded at once
_IMAGE_BYTES = math.prod(IMAGE_SHAPE)


class ImageFile:
    """The images of files in one flat file of 8-bit pixels, read by their numbers.

    So any order costs the same, a step's images are found without those before them,
    and memory does not grow with their number.
    """

    def __init__(self, files: Sequence[str], folder: str):
        """Decodes the files' `pixels` feature into a file without a name.

        Args:
          files: patterns of gzipped TFRecord files.
          folder: on whose disk; the space is free again when this object is gone.
        """
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, kept open
        digest = hashlib.sha256()
        batches = read_examples(files, PIXELS, batch_size=_READ)
        for batch in batches.as_numpy_iterator():
            digest.update(batch.images.tobytes())
            self._file.write(batch.images.tobytes())
        self._file.flush()
        self.count = self._file.tell() // _IMAGE_BYTES
        self.digest = digest.hexdigest()  # SHA-256 of the images

    def read(self, numbers: Iterable[int]) -> np.ndarray:
        """Returns the images of these numbers, uint8 [B, 28, 28, 1]."""
        file = self._file.fileno()
        pixels = b"".join(
            os.pread(file, _IMAGE_BYTES, int(number) * _IMAGE_BYTES)
            for number in numbers
        )
        return np.frombuffer(pixels, np.uint8).reshape(-1, *IMAGE_SHAPE)


def make_training_batches(
    images: ImageFile,
    config: TrainConfig,
    *,
    latent_size: int,
    is_binary: bool = True,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Returns endless batches (images, noise) for training.

    The seed and a step's number alone decide what is in its batch: order, binarization
    and noise are the same on any number of replicas, which share out the batch, and the
    same again when a step is repeated. Images that do not fill an epoch's last batch
    are left out; each epoch leaves out other images.

    Args:
      images: the train split.
      config: batch size B and seed.
      latent_size: Z.
      is_binary: whether to binarize; if not, the pixels stay grey.
      first_step: the number of the first batch.

    Returns:
      images, float32 [B, 28, 28, 1] of 0 or 1, or in [0, 1]; noise, float32 [B, 1, Z].
    """
    size, steps_per_epoch = config.batch_size, images.count // config.batch_size

    @functools.lru_cache(maxsize=2)  # around an epoch's end, two are asked for
    def shuffle(epoch):
        return np.random.default_rng([config.seed, epoch]).permutation(images.count)

    def read_batch(step):
        epoch, index = divmod(int(step), steps_per_epoch)
        return images.read(shuffle(epoch)[index * size : (index + 1) * size])

    def make_batch(step):
        pixels = tf.numpy_function(read_batch, [step], tf.uint8, stateful=False)
        pixels = tf.ensure_shape(pixels, [size, *IMAGE_SHAPE])
        batch = tf.cast(pixels, tf.float32) / 255.0
        if is_binary:
            uniform = tf.random.stateless_uniform(
                tf.shape(batch), [config.seed, 2 * step], alg="philox"
            )
            batch = tf.cast(uniform < batch, tf.float32)
        noise = tf.random.stateless_normal(
            [size, 1, latent_size], [config.seed, 2 * step + 1], alg="philox"
        )
        return batch, noise

    steps = tf.data.Dataset.range(first_step, tf.int64.max)
    return steps.map(make_batch, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def make_evaluation_batches(
    files: Sequence[str],
    feature: str,
    *,
    batch_size: int,
    latent_size: int,
    samples: int,
    seed: int,
) -> tf.data.Dataset:
    """Returns batches (images, noise, weights) whose noise the images determine.

    The last batch is filled up with blank images of weight 0, so that it can be shared
    out among replicas like any other.

    Args:
      files: patterns of gzipped TFRecord files.
      feature: the images that the model takes: PIXELS or BITS.
      batch_size: B.
      latent_size: Z.
      samples: K, draws of z per image.
      seed: of those draws.

    Returns:
      images, float32 [B, 28, 28, 1] in [0, 1]; noise, float32 [B, K, Z]; weights,
      float32 [B], 0 or 1.
    """

    def fill_up(examples):
        size = tf.shape(examples.images)[0]
        padding = [[0, batch_size - size], [0, 0], [0, 0], [0, 0]]
        filled = tf.pad(examples.images, padding)
        pixels = tf.cast(filled, tf.float32) / 255.0
        pixels = tf.ensure_shape(pixels, [batch_size, *IMAGE_SHAPE])
        noise = fixed_noise.normal(
            pixels, seed, samples=samples, latent_size=latent_size
        )
        return pixels, noise, tf.cast(tf.range(batch_size) < size, tf.float32)

    batches = read_examples(files, feature, batch_size=batch_size)
    return batches.map(fill_up, tf.data.AUTOTUNE).cache()

"""The input pipelines that make batches for training and evaluation from examples."""

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

_READ = 1024  # number of images that are decoded at once
_IMAGE_BYTES = math.prod(IMAGE_SHAPE)


class ImageFile:
    """A temporary file of 8-bit images, which are read by their numbers.

    Reading in random order costs no more than in sequence, a resumed training does not
    read the images of earlier steps, and memory does not grow with the data set.
    """

    def __init__(self, files: Sequence[str], folder: str):
        """Copies the pixels of all examples into an unnamed file, 784 bytes an image.

        Args:
          files: patterns of gzipped TFRecord files.
          folder: an existing folder on the disk to use. The operating system frees
            the space when this object is deleted or the process ends.
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
        """Returns the images with the given numbers, uint8 [B, 28, 28, 1].

        Args:
          numbers: B positions in the file, from 0.
        """
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
    """Returns an endless data set of training batches (images, noise).

    The content of a batch depends only on the seed and the number of the training step:
    order, binarization and noise are the same for any number of replicas and when a
    resumed training repeats a step. The images that would not fill the last batch of an
    epoch are left out; they are different images in each epoch.

    Args:
      images: the train split.
      config: gives the batch size B and the seed.
      latent_size: Z, the length of a latent.
      is_binary: whether to binarize the pixels at random; if not, they stay grey.
      first_step: number of the training step that takes the first batch.

    Returns:
      images, float32 [B, 28, 28, 1], of 0 and 1 if binarized, else in [0, 1]; noise,
      float32 [B, 1, Z], standard normal.
    """
    size, steps_per_epoch = config.batch_size, images.count // config.batch_size

    @functools.lru_cache(maxsize=2)  # parallel calls may need the next epoch's, too
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
    """Returns evaluation batches (images, noise, weights), with fixed noise per image.

    The noise of an image depends only on its pixels and the seed. The last batch is
    filled up with black images of weight 0: replicas need batches of one size.

    Args:
      files: patterns of gzipped TFRecord files.
      feature: the feature that holds the images: PIXELS or BITS.
      batch_size: B.
      latent_size: Z, the length of a latent.
      samples: K, draws of z per image.
      seed: seed of the noise.

    Returns:
      images, float32 [B, 28, 28, 1] in [0, 1]; noise, float32 [B, K, Z], standard
      normal; weights, float32 [B], 1 for an image of the files, 0 for a filler.
    """

    def pad_batch(examples):
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
    return batches.map(pad_batch, tf.data.AUTOTUNE).cache()

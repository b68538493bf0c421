"""Input pipelines over transformed examples: TFRecord files -> batches."""

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

_READ = 1024  # images unpacked at once
_IMAGE_BYTES = math.prod(IMAGE_SHAPE)

FEATURES = {
    "image": tf.io.FixedLenFeature(IMAGE_SHAPE, tf.float32),
    "binarized": tf.io.FixedLenFeature(IMAGE_SHAPE, tf.int64),
}


def read_images(files: Sequence[str], feature: str) -> tf.data.Dataset:
    """Returns one image feature of the files: uint8 [28, 28, 1] in 0..255, in order.

    Args:
      files: patterns of gzipped TFRecord files.
      feature: `image`, or `binarized`.
    """
    scale = 255.0 if feature == "image" else 255

    def parse(serialized):
        # One by one: parse_example on batches of dense features loses memory, some
        # 700 bytes an image (TensorFlow 2.16).
        example = tf.io.parse_single_example(serialized, {feature: FEATURES[feature]})
        # Back to 8 bits, a quarter of the memory: exact, as they were 8 bits once.
        return tf.cast(tf.round(example[feature] * scale), tf.uint8)

    names = tf.data.Dataset.list_files(list(files), shuffle=False)
    records = tf.data.TFRecordDataset(names, compression_type="GZIP")
    return records.map(parse, tf.data.AUTOTUNE)


def count_images(files: Sequence[str]) -> int:
    """Returns how many images the files have.

    Args:
      files: patterns of gzipped TFRecord files.
    """
    names = tf.data.Dataset.list_files(list(files), shuffle=False)
    records = tf.data.TFRecordDataset(names, compression_type="GZIP")
    return int(records.reduce(np.int64(0), lambda count, _: count + 1))


class ImageFile:
    """The images of files in one flat file of 8-bit pixels, read by their numbers.

    So any order costs the same, a step's images are found without those before them,
    and memory does not grow with their number.
    """

    def __init__(self, files: Sequence[str], folder: str):
        """Unpacks the files' `image` feature into a file without a name.

        Args:
          files: patterns of gzipped TFRecord files.
          folder: on whose disk; the space is free again when this object is gone.
        """
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, kept open
        digest = hashlib.sha256()
        for images in read_images(files, "image").batch(_READ).as_numpy_iterator():
            digest.update(images.tobytes())
            self._file.write(images.tobytes())
        self._file.flush()
        self.count = self._file.tell() // _IMAGE_BYTES
        self.digest = digest.hexdigest()  # SHA-256 of the images

    def take(self, numbers: Iterable[int]) -> np.ndarray:
        """Returns the images of these numbers, uint8 [B, 28, 28, 1]."""
        file = self._file.fileno()
        pixels = b"".join(
            os.pread(file, _IMAGE_BYTES, int(number) * _IMAGE_BYTES)
            for number in numbers
        )
        return np.frombuffer(pixels, np.uint8).reshape(-1, *IMAGE_SHAPE)


def training_batches(
    images: ImageFile,
    latent_size: int,
    config: TrainConfig,
    binary: bool = True,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Returns endless batches (images, noise) for training.

    The seed and a step's number alone decide what is in its batch: order, binarization
    and noise are the same on any number of replicas, which share out the batch, and the
    same again when a step is repeated. What does not fill an epoch's last batch is left
    out; each epoch leaves out others.

    Args:
      images: the train split.
      latent_size: Z.
      config: batch size B and seed.
      binary: whether to binarize; if not, the pixels stay grey.
      first_step: the number of the first batch.

    Returns:
      images, float32 [B, 28, 28, 1] of 0 or 1, or in [0, 1]; noise, float32 [B, 1, Z].
    """
    size, steps_per_epoch = config.batch_size, images.count // config.batch_size

    @functools.lru_cache(maxsize=2)  # around an epoch's end, two are asked for
    def order(epoch):
        return np.random.default_rng([config.seed, epoch]).permutation(images.count)

    def take(step):
        epoch, place = divmod(int(step), steps_per_epoch)
        return images.take(order(epoch)[place * size : (place + 1) * size])

    def draw(step):
        pixels = tf.numpy_function(take, [step], tf.uint8, stateful=False)
        pixels = tf.ensure_shape(pixels, [size, *IMAGE_SHAPE])
        batch = tf.cast(pixels, tf.float32) / 255.0
        if binary:
            uniform = tf.random.stateless_uniform(
                tf.shape(batch), [config.seed, 2 * step], alg="philox"
            )
            batch = tf.cast(uniform < batch, tf.float32)
        noise = tf.random.stateless_normal(
            [size, 1, latent_size], [config.seed, 2 * step + 1], alg="philox"
        )
        return batch, noise

    steps = tf.data.Dataset.range(first_step, tf.int64.max)
    return steps.map(draw, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(
    images: tf.data.Dataset, batch_size: int, latent_size: int, samples: int, seed: int
) -> tf.data.Dataset:
    """Returns batches (images, noise, weights) whose noise the images determine.

    The last batch is filled up with blank images of weight 0, so that it can be shared
    out among replicas like any other.

    Args:
      images: uint8 [28, 28, 1] each: 0 or 255, or grey for a continuous likelihood.
      batch_size: B.
      latent_size: Z.
      samples: K, draws of z per image.
      seed: of those draws.

    Returns:
      images, float32 [B, 28, 28, 1] in [0, 1]; noise, float32 [B, K, Z]; weights,
      float32 [B], 0 or 1.
    """

    def fill_up(batch):
        size = tf.shape(batch)[0]
        padding = [[0, batch_size - size], [0, 0], [0, 0], [0, 0]]
        filled = tf.ensure_shape(tf.pad(batch, padding), [batch_size, *IMAGE_SHAPE])
        pixels = tf.cast(filled, tf.float32) / 255.0
        noise = fixed_noise.normal(pixels, seed, samples, latent_size)
        return pixels, noise, tf.cast(tf.range(batch_size) < size, tf.float32)

    return images.batch(batch_size).map(fill_up, tf.data.AUTOTUNE).cache()

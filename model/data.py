"""Input pipelines over transformed examples: TFRecord files -> batches."""

from collections.abc import Sequence

import tensorflow as tf

from model import fixed_noise
from model.config import IMAGE_SHAPE, TrainConfig

_READ = 1024  # examples parsed at once

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
        example = tf.io.parse_example(serialized, {feature: FEATURES[feature]})
        # Back to 8 bits, a quarter of the memory: exact, as they were 8 bits once.
        return tf.cast(tf.round(example[feature] * scale), tf.uint8)

    names = tf.data.Dataset.list_files(list(files), shuffle=False)
    records = tf.data.TFRecordDataset(names, compression_type="GZIP")
    return records.batch(_READ).map(parse, tf.data.AUTOTUNE).unbatch()


def training_batches(
    images: tf.data.Dataset, count: int, latent_size: int, config: TrainConfig
) -> tf.data.Dataset:
    """Returns endless batches (images, noise) for training.

    Binarization and noise are drawn afresh for each step from the seed and the step's
    number, here rather than in the model: so they are the same on any number of
    replicas, which share out the batch, and the same again when a step is repeated.

    Args:
      images: uint8 [28, 28, 1] each.
      count: how many images there are.
      latent_size: Z.
      config: batch size B and seed.

    Returns:
      images, float32 [B, 28, 28, 1] of 0 or 1; noise, float32 [B, 1, Z].
    """

    def draw(step, batch):
        uniform = tf.random.stateless_uniform(
            tf.shape(batch), [config.seed, 2 * step], alg="philox"
        )
        noise = tf.random.stateless_normal(
            [config.batch_size, 1, latent_size],
            [config.seed, 2 * step + 1],
            alg="philox",
        )
        probabilities = tf.cast(batch, tf.float32) / 255.0
        return tf.cast(uniform < probabilities, tf.float32), noise

    return (
        images.shuffle(count, seed=config.seed)
        # A last batch smaller than the number of replicas breaks convolutions.
        .batch(config.batch_size, drop_remainder=True)
        .repeat()
        .enumerate()
        .map(draw, tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_batches(
    images: tf.data.Dataset, batch_size: int, latent_size: int, samples: int, seed: int
) -> tf.data.Dataset:
    """Returns batches (images, noise, weights) whose noise the images determine.

    The last batch is filled up with blank images of weight 0, so that it can be shared
    out among replicas like any other.

    Args:
      images: uint8 [28, 28, 1] each, 0 or 255.
      batch_size: B.
      latent_size: Z.
      samples: K, draws of z per image.
      seed: of those draws.

    Returns:
      images, float32 [B, 28, 28, 1] of 0 or 1; noise, float32 [B, K, Z]; weights,
      float32 [B], 0 or 1.
    """

    def fill_up(batch):
        size = tf.shape(batch)[0]
        padding = [[0, batch_size - size], [0, 0], [0, 0], [0, 0]]
        filled = tf.ensure_shape(tf.pad(batch, padding), [batch_size, *IMAGE_SHAPE])
        binary = tf.cast(filled, tf.float32) / 255.0
        noise = fixed_noise.normal(binary, seed, samples, latent_size)
        return binary, noise, tf.cast(tf.range(batch_size) < size, tf.float32)

    return images.batch(batch_size).map(fill_up, tf.data.AUTOTUNE).cache()

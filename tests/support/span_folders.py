"""Spans for tests: folders of small images with two bars each."""

import numpy as np
import tensorflow as tf

from components.datasets import idx

TRAIN, TEST = 1_000, 500  # number of images


def bars(seed, train=TRAIN, test=TEST):
    """Returns images and labels, which a model can learn, as `idx.read_folder` does."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, count in (("train", train), ("test", test)):
        labels = rng.integers(0, 10, count).astype(np.uint8)
        images = np.zeros([count, 28, 28], np.uint8)
        for image, digit in zip(images, labels):
            image[2 + 2 * digit :][:4, 4:24] = 255
            image[4:24, 2 + 2 * rng.integers(10) :][:, :4] = rng.integers(128, 256)
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, labels
    return arrays


def write_idx(folder, arrays):
    """Writes the four IDX files of a span."""
    folder.mkdir(parents=True, exist_ok=True)
    for stream, array in arrays.items():
        (folder / idx.file_name(stream)).write_bytes(idx.to_bytes(array))


def write_records(folder, arrays, files=2, suffix=".gz"):
    """Writes TFRecord files, `files` of each split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        for i in range(files):
            path = folder / f"{split}-{i:05}-of-{files:05}.tfrecord{suffix}"
            kind = "GZIP" if suffix == ".gz" else ""
            start, stop = (len(images) * j // files for j in (i, i + 1))
            with tf.io.TFRecordWriter(str(path), kind) as writer:
                for image, label in zip(images[start:stop], labels[start:stop]):
                    writer.write(example(image.tobytes(), int(label)))


def example(image, *labels):
    """Returns a serialized tf.Example; a test can pass wrong values."""
    bytes_list = tf.train.BytesList(value=[image])
    int64_list = tf.train.Int64List(value=labels)
    feature = {
        "image": tf.train.Feature(bytes_list=bytes_list),
        "label": tf.train.Feature(int64_list=int64_list),
    }
    features = tf.train.Features(feature=feature)
    return tf.train.Example(features=features).SerializeToString()

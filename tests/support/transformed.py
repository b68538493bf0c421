"""Transformed examples, as Transform writes them."""

import tensorflow as tf


def write(path, images, bits):
    """Writes transformed examples as Transform does."""
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for image, of_image in zip(images, bits):
            example = tf.train.Example()
            feature = example.features.feature
            feature["image"].float_list.value.extend(image.ravel())
            feature["binarized"].int64_list.value.extend(of_image.ravel().astype(int))
            writer.write(example.SerializeToString())

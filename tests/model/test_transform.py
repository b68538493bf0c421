"""The preprocessing of images: pixels, bits and labels."""

import numpy as np
import pytest
import tensorflow as tf

from model import fixed_noise, transform


def raw(images):
    """Returns images as Ingest writes them, each image's 8-bit pixels as a string."""
    pixels = np.round(images * 255).astype(np.uint8)
    return {
        "image": tf.constant([image.tobytes() for image in pixels]),
        "label": tf.range(len(images), dtype=tf.int64),
    }


def test_pixels_and_labels_come_through(images):
    inputs = raw(images)
    out = transform.preprocessing_fn(inputs, {"seed": 0})
    np.testing.assert_array_equal(out["pixels"], inputs["image"])
    np.testing.assert_array_equal(out["label"], np.arange(12))
    assert {name: (t.dtype, t.shape[1:]) for name, t in out.items()} == {
        "pixels": (tf.string, []),
        "bits": (tf.string, []),
        "label": (tf.int64, []),
    }


def test_the_binarization_is_the_fixed_one(images):
    out = transform.preprocessing_fn(raw(images), {"seed": 7})
    expected = fixed_noise.binarize(images, 7).numpy().astype(np.uint8)
    packed = [np.packbits(image).tobytes() for image in expected]
    assert out["bits"].numpy().tolist() == packed
    other = transform.preprocessing_fn(raw(images), {"seed": 8})
    assert not np.array_equal(out["bits"], other["bits"])


def test_an_image_of_another_size_is_refused():
    inputs = {"image": tf.constant([b"\0" * 783]), "label": tf.constant([0])}
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have 784 bytes"):
        transform.preprocessing_fn(inputs, {"seed": 0})

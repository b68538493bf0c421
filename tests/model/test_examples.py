"""The reader of examples, compared with NumPy's bit packing and hand-written files."""

import numpy as np
import pytest
import tensorflow as tf

from model import examples
from tests.support.transformed import example, write


@pytest.fixture
def files(tmp_path, images, binary):
    write(tmp_path / "b.gz", images[7:], binary[7:], range(7, 12))
    write(tmp_path / "a.gz", images[:7], binary[:7], range(7))
    return [str(tmp_path / "*.gz")]


def read(files, image, batch_size=5):
    batches = examples.read_examples(files, image, batch_size=batch_size)
    return list(batches.as_numpy_iterator())


def test_pixels_are_read_exactly_in_the_order_of_the_files_names(files, images):
    batches = read(files, "pixels")
    assert [batch.images.shape for batch in batches] == [
        (5, 28, 28, 1),
        (5, 28, 28, 1),
        (2, 28, 28, 1),
    ]
    found = np.concatenate([batch.images for batch in batches])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.round(images * 255))
    labels = np.concatenate([batch.labels for batch in batches])
    np.testing.assert_array_equal(labels, np.arange(12))


def test_bits_are_read_as_0_and_255(files, binary):
    found = np.concatenate([batch.images for batch in read(files, "bits")])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, binary * 255)


def test_a_batch_has_the_serialized_examples(files, images, binary):
    (batch,) = read(files, "bits", batch_size=12)
    for number, serialized in enumerate(batch.serialized):
        expected = tf.train.Example.FromString(
            example(images[number], binary[number], number)
        )
        assert tf.train.Example.FromString(serialized) == expected


def test_ingests_examples_are_read(tmp_path):
    pixels = np.arange(784) % 256
    message = tf.train.Example()
    feature = message.features.feature
    feature["image"].bytes_list.value.append(pixels.astype(np.uint8).tobytes())
    feature["label"].int64_list.value.append(3)
    with tf.io.TFRecordWriter(str(tmp_path / "raw.gz"), "GZIP") as writer:
        writer.write(message.SerializeToString())
    (batch,) = read([str(tmp_path / "raw.gz")], "image")
    np.testing.assert_array_equal(batch.images.ravel(), pixels)
    assert batch.labels.tolist() == [3]


def test_labels_are_read_in_the_same_order(files, tmp_path):
    labels = examples.read_labels(files)
    np.testing.assert_array_equal(labels, np.arange(12))
    path = str(tmp_path / "none.gz")
    tf.io.TFRecordWriter(path, "GZIP").close()
    none = examples.read_labels([path])
    assert (none.shape, none.dtype) == ((0,), np.dtype(np.int64))


def test_examples_are_counted(files):
    assert examples.count_examples(files) == 12


def test_bits_are_packed_as_numpy_packs_them(binary):
    expected = [np.packbits(image.astype(np.uint8)).tobytes() for image in binary]
    assert examples.pack_bits(tf.constant(binary)).numpy().tolist() == expected
    # Also in a graph, where TensorFlow makes constants by other code. Bits of zeros are
    # bytes.
    in_graph = tf.function(examples.pack_bits)
    assert in_graph(tf.zeros([1, 28, 28, 1])).numpy().tolist() == [bytes(98)]
    assert in_graph(tf.constant(binary)).numpy().tolist() == expected


@pytest.mark.parametrize("size", [0, 783, 785])
def test_an_image_of_another_size_is_refused(size):
    encoded = tf.constant([bytes(784), bytes(size)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have 784 bytes"):
        examples.decode_pixels(encoded)


def old_example(name, values):
    message = tf.train.Example()
    feature = message.features.feature[name]
    (feature.float_list if name == "image" else feature.int64_list).value.extend(values)
    return message.SerializeToString()


@pytest.mark.parametrize(("image", "old"), [("pixels", "image"), ("bits", "binarized")])
def test_a_model_reads_examples_of_this_release_and_of_older_ones(
    images, binary, image, old
):
    expected = images if image == "pixels" else binary
    serialized = [example(images[i], binary[i]) for i in range(6)]
    kind = float if old == "image" else int
    serialized += [old_example(old, expected[i].ravel().astype(kind)) for i in (6, 7)]
    found = examples.parse_model_input(tf.constant(serialized), image)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected[:8], atol=1e-7)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("pixels", "must have the feature pixels of 784 bytes, or image"),
        ("bits", "must have the feature bits of 98 bytes, or binarized"),
    ],
)
@pytest.mark.parametrize("size", [None, 97])
def test_a_model_refuses_an_example_without_its_image(image, message, size):
    broken = tf.train.Example()
    if size is not None:
        broken.features.feature[image].bytes_list.value.append(bytes(size))
    whole = example(np.zeros(784), np.zeros(784))
    serialized = tf.constant([whole, broken.SerializeToString()])
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        examples.parse_model_input(serialized, image)

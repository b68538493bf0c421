import numpy as np
import pytest
import tensorflow as tf

from model import data, fixed_noise
from model.config import TrainConfig


def write(path, images, bits):
    """Writes transformed examples as Transform does."""
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for image, of_image in zip(images, bits):
            example = tf.train.Example()
            feature = example.features.feature
            feature["image"].float_list.value.extend(image.ravel())
            feature["binarized"].int64_list.value.extend(of_image.ravel().astype(int))
            writer.write(example.SerializeToString())


@pytest.fixture
def files(tmp_path, images, binary):
    write(tmp_path / "a.gz", images[:7], binary[:7])
    write(tmp_path / "b.gz", images[7:], binary[7:])
    return [str(tmp_path / "*.gz")]


def arrays(dataset):
    return [np.stack(list(part)) for part in zip(*dataset.as_numpy_iterator())]


def test_pixels_are_read_exactly_and_in_order(files, images, binary):
    read = np.stack(list(data.read_images(files, "image").as_numpy_iterator()))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, np.round(images * 255))
    bits = np.stack(list(data.read_images(files, "binarized").as_numpy_iterator()))
    np.testing.assert_array_equal(bits, binary * 255)


@pytest.fixture
def batches(files):
    def make(**changes):
        config = TrainConfig(**{"batch_size": 5, "seed": 3, **changes})
        dataset = data.read_images(files, "image")
        return data.training_batches(dataset, 12, latent_size=4, config=config)

    return make


def test_training_drops_what_does_not_fill_a_batch(batches):
    images, noise = arrays(batches().take(6))
    assert images.shape == (6, 5, 28, 28, 1)
    assert noise.shape == (6, 5, 1, 4)
    assert set(np.unique(images)) == {0.0, 1.0}


def test_the_same_seed_gives_the_same_batches(batches):
    for one, two in zip(arrays(batches().take(4)), arrays(batches().take(4))):
        np.testing.assert_array_equal(one, two)
    other = arrays(batches(seed=4).take(4))
    assert not np.array_equal(other[1], arrays(batches().take(4))[1])


def test_binarization_is_dynamic_with_the_pixels_as_means(images):
    """Bits of the same image differ from epoch to epoch, and average to it."""
    dataset = tf.data.Dataset.from_tensors(np.round(images[0] * 255).astype(np.uint8))
    config = TrainConfig(batch_size=1)
    drawn, noise = arrays(data.training_batches(dataset, 1, 4, config).take(2_000))
    error = np.abs(drawn.mean((0, 1)) - images[0])
    assert error.max() < 5 * 0.5 / np.sqrt(2_000)
    assert not np.array_equal(drawn[0], drawn[1])
    assert abs(noise.mean()) < 5 / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(1, abs=5 / np.sqrt(2 * noise.size))


def test_each_epoch_has_each_image_once_in_another_order(files, images):
    """With binary images, dynamic binarization leaves them as they are."""
    solid = np.zeros([12, 28, 28, 1], np.uint8)
    for i in range(12):
        solid[i, i] = 255
    dataset = tf.data.Dataset.from_tensor_slices(solid)
    config = TrainConfig(batch_size=4)
    drawn, _ = arrays(data.training_batches(dataset, 12, 2, config).take(6))
    order = np.argmax(drawn.reshape(2, 12, 28, 28)[..., 0], axis=2)
    for epoch in order:
        assert sorted(epoch) == list(range(12))
    assert list(order[0]) != list(order[1])


def test_evaluation_fills_the_last_batch_with_weight_zero(files, binary):
    dataset = data.read_images(files, "binarized")
    batches = data.evaluation_batches(dataset, 5, latent_size=4, samples=3, seed=1)
    images, noise, weights = arrays(batches)
    assert weights.tolist() == [[1] * 5, [1] * 5, [1, 1, 0, 0, 0]]
    np.testing.assert_array_equal(images.reshape(-1, 28, 28, 1)[:12], binary)
    np.testing.assert_allclose(
        noise.reshape(-1, 3, 4)[:12], fixed_noise.normal(binary, 1, 3, 4), rtol=1e-6
    )

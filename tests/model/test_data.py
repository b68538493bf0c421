"""The batches for training and evaluation, and the memory that they need."""

import hashlib

import numpy as np
import pytest

from model import data, fixed_noise
from tests.benchmarks.input import peak_mb
from tests.support.configs import demo_train
from tests.support.transformed import write


@pytest.fixture
def files(tmp_path, images, binary):
    write(tmp_path / "a.gz", images[:7], binary[:7])
    write(tmp_path / "b.gz", images[7:], binary[7:])
    return [str(tmp_path / "*.gz")]


def arrays(dataset):
    return [np.stack(list(part)) for part in zip(*dataset.as_numpy_iterator())]


@pytest.fixture
def image_file(files, tmp_path):
    return data.ImageFile(files, str(tmp_path))


def test_images_are_found_by_their_numbers(image_file, images, tmp_path):
    pixels = np.round(images * 255).astype(np.uint8)
    assert image_file.count == 12
    np.testing.assert_array_equal(image_file.read([11, 0, 3, 3]), pixels[[11, 0, 3, 3]])
    assert image_file.digest == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gz", "b.gz"]


@pytest.fixture
def batches(image_file):
    def make(binary=True, first_step=0, **changes):
        config = demo_train(**{"batch_size": 5, "seed": 3, **changes})
        return data.make_training_batches(
            image_file,
            config,
            latent_size=4,
            is_binary=binary,
            first_step=first_step,
        )

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


def test_batches_from_a_later_step_are_those_of_that_step(batches):
    whole, later = arrays(batches().take(7)), arrays(batches(first_step=3).take(4))
    for all_, tail in zip(whole, later):
        np.testing.assert_array_equal(all_[3:], tail)


def test_binarization_is_dynamic_with_the_pixels_as_means(tmp_path, images):
    """Bits of one image differ between epochs, and their mean is the pixel."""
    write(tmp_path / "one.gz", images[:1], images[:1])
    file = data.ImageFile([str(tmp_path / "one.gz")], str(tmp_path))
    config = demo_train(batch_size=1)
    batches = data.make_training_batches(file, config, latent_size=4)
    drawn, noise = arrays(batches.take(2_000))
    error = np.abs(drawn.mean((0, 1)) - images[0])
    assert error.max() < 5 * 0.5 / np.sqrt(2_000)
    assert not np.array_equal(drawn[0], drawn[1])
    assert abs(noise.mean()) < 5 / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(1, abs=5 / np.sqrt(2 * noise.size))


def test_each_epoch_has_each_image_once_in_another_order(batches, images):
    """The images are grey, so that the test can identify each one."""
    drawn, _ = arrays(batches(binary=False, batch_size=4).take(6))
    orders = []
    for epoch in drawn.reshape(2, 12, 28, 28, 1):
        away = np.abs(epoch[:, None] - images[None]).max((2, 3, 4))
        np.testing.assert_allclose(away.min(1), 0, atol=1e-6)
        orders.append(away.argmin(1).tolist())
        assert sorted(orders[-1]) == list(range(12))
    assert orders[0] != orders[1]


def test_evaluation_fills_the_last_batch_with_weight_zero(files, binary):
    batches = data.make_evaluation_batches(
        files, "bits", batch_size=5, latent_size=4, samples=3, seed=1
    )
    images, noise, weights = arrays(batches)
    assert weights.tolist() == [[1] * 5, [1] * 5, [1, 1, 0, 0, 0]]
    np.testing.assert_array_equal(images.reshape(-1, 28, 28, 1)[:12], binary)
    np.testing.assert_allclose(
        noise.reshape(-1, 3, 4)[:12],
        fixed_noise.normal(binary, 1, samples=3, latent_size=4),
        rtol=1e-6,
    )


@pytest.mark.nightly
def test_memory_does_not_grow_with_the_images():
    """The test compares peak MB of processes; one reads ten times as many images."""
    assert peak_mb(250_000) < 1.2 * peak_mb(25_000)

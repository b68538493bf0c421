"""Measurements by signatures with known answers, compared with NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from components.evaluation.measure import (
    Measurements,
    SignatureError,
    load_signatures,
    measure_batches,
)
from components.evaluation.scores import Scores

SIZES = [5, 5, 3]  # of the three batches
IMAGES = tf.TensorSpec([None, 28, 28, 1], tf.float32, name="images")


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, [13, 28, 28, 1]).astype(np.uint8)


def batches(pixels):
    starts = np.cumsum([0, *SIZES])
    return [
        tf.constant(pixels[start : start + size])
        for start, size in zip(starts, SIZES, strict=False)
    ]


# Latents whose variances over the images are 1, 0.0101 and 0.0099, and means are 3.
_ALTERNATING = np.where(np.arange(13) % 2, 1.0, -1.0)
_UNIT = (_ALTERNATING - _ALTERNATING.mean()) / _ALTERNATING.std()
LOC = 3.0 + _UNIT[:, None] * np.sqrt([1.0, 0.0101, 0.0099])


def signatures():
    """Returns signatures whose bounds are pixels, and whose latents are known."""
    given = []

    def elbo(images):
        given.append(len(images))
        values = images[:, 0, 0, 0]
        return {"elbo": values - 2.0, "reconstruction": values, "kl": 2.0 + 0 * values}

    def iwae(images, k):
        return {"iwae": images[:, 0, 1, 0] * tf.cast(k, tf.float32)}

    def encode(images):
        stop = sum(given)
        return {"loc": tf.constant(LOC[stop - len(images) : stop], tf.float32)}

    return {"elbo": elbo, "iwae": iwae, "encode": encode}


def test_means_are_of_all_images_so_far(pixels):
    found = [m for m, _ in measure_batches(signatures(), batches(pixels), k=4)]
    assert [m.images for m in found] == [5, 10, 13]
    for measured in found:
        first = pixels[: measured.images].astype(np.float64) / 255.0
        mean = first[:, 0, 0, 0].mean()
        assert measured.elbo == pytest.approx(mean - 2.0)
        assert measured.reconstruction == pytest.approx(mean)
        assert measured.kl == pytest.approx(2.0)
        assert measured.iwae == pytest.approx(4 * first[:, 0, 1, 0].mean())
        assert measured.k == 4


def test_each_image_has_its_own_latents(pixels):
    found = [loc for _, loc in measure_batches(signatures(), batches(pixels), k=1)]
    assert [len(each) for each in found] == SIZES
    np.testing.assert_allclose(np.concatenate(found), LOC, rtol=1e-6)


def test_an_elbo_that_is_known_is_not_measured_again(pixels):
    rng = np.random.default_rng(2)
    elbo, reconstruction, kl = rng.normal(-90, 9, [3, sum(SIZES)])
    scores = Scores(
        images=np.arange(sum(SIZES)),
        labels=np.zeros(sum(SIZES), np.int64),
        elbo=elbo,
        reconstruction=reconstruction,
        kl=kl,
    )
    named = signatures()
    place = iter(SIZES)

    def encode(images):
        return {"loc": tf.zeros([next(place), 3])}

    without = {"iwae": named["iwae"], "encode": encode}
    found = [
        m for m, _ in measure_batches(without, batches(pixels), k=4, scores=scores)
    ]
    for measured in found:
        count = measured.images
        assert measured.elbo == pytest.approx(elbo[:count].mean())
        assert measured.reconstruction == pytest.approx(reconstruction[:count].mean())
        assert measured.kl == pytest.approx(kl[:count].mean())
    assert found[-1].iwae == pytest.approx(4 * pixels[:, 0, 1, 0].mean() / 255.0)


def test_a_latent_is_active_above_a_variance_of_a_hundredth(pixels):
    *_, (measured, _) = measure_batches(signatures(), batches(pixels), k=1)
    assert (measured.active_dimensions, measured.latent_size) == (2, 3)
    assert measured.describe_active() == "2 of 3"


def test_sums_lose_no_digits():
    """In float32, 1e8 + 1 is 1e8, so the mean would be 0."""
    given = iter([np.float32([1e8, 1.0]), np.float32([-1e8])])

    def elbo(images):
        values = next(given)
        return {"elbo": tf.constant(values), "reconstruction": values, "kl": values}

    named = {
        "elbo": elbo,
        "iwae": lambda images, k: {"iwae": tf.zeros([len(images)])},
        "encode": lambda images: {"loc": tf.zeros([len(images), 1])},
    }
    two = [tf.zeros([size, 28, 28, 1], tf.uint8) for size in (2, 1)]
    *_, (measured, _) = measure_batches(named, two, k=1)
    assert measured.elbo == pytest.approx(1 / 3)


def test_no_batches_measure_nothing():
    assert list(measure_batches(signatures(), [], k=1)) == []


class Model(tf.Module):
    @tf.function(input_signature=[IMAGES])
    def elbo(self, images):
        return {"elbo": images[:, 0, 0, 0]}


@pytest.fixture
def exported(tmp_path):
    model = Model()
    tf.saved_model.save(model, str(tmp_path), {"elbo": model.elbo})
    return str(tmp_path)


def test_the_signatures_that_are_needed_are_loaded(exported, pixels):
    answer = load_signatures(exported, "elbo")["elbo"](images=tf.ones([2, 28, 28, 1]))
    assert answer["elbo"].numpy().tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            (),
            "the model must have the signatures elbo, iwae and encode, it lacks "
            "encode, iwae: an older release exported it, train it anew",
        ),
        (
            ("generate",),
            "the model must have the signature generate, it lacks generate: an older "
            "release exported it, train it anew",
        ),
    ],
)
def test_missing_signatures_are_named(exported, names, message):
    with pytest.raises(SignatureError, match=f"^{message}$"):
        load_signatures(exported, *names)


def test_measured_knows_its_fields():
    measured = Measurements(13, -90.0, -70.0, 20.0, -89.0, 64, 7, 16)
    assert Measurements(**measured._asdict()).describe_active() == "7 of 16"

"""The report's measurements, against the model in memory, NumPy and scikit-learn."""

import numpy as np
import pytest
import sklearn.decomposition
import tensorflow as tf
import tf_keras as tfk

from components.datasets.idx import SplitError
from components.evaluation.scores import Scores, ScoresError
from components.model_scores import score_images
from components.reporting import measurements
from model import export, fixed_noise
from model.vae import VAE
from tests.support import transformed
from tests.support.configs import demo_model

SAMPLES, SEED = 2, 5
LABELS = np.array([4, 1, 1, 4, 7, 4, 1, 7, 2, 2, 7, 4])


@pytest.fixture(scope="module")
def vae():
    tfk.utils.set_random_seed(1)
    return VAE(demo_model(network="dense", latent_size=3, hidden_units=16))


@pytest.fixture(scope="module")
def signatures(vae):
    return export.ServingModule(vae, samples=SAMPLES, seed=SEED).signatures()


@pytest.fixture
def files(tmp_path, binary):
    path = tmp_path / "test.gz"
    transformed.write(path, binary, binary, LABELS)
    return [str(path)]


def make_scores(elbo, labels=LABELS):
    return Scores(
        images=np.arange(len(elbo)),
        labels=labels,
        elbo=elbo,
        reconstruction=elbo + 20.0,
        kl=np.full(len(elbo), 20.0),
    )


@pytest.fixture
def candidate(files, signatures):
    return score_images(signatures, files)


@pytest.fixture
def loc(signatures, binary):
    return signatures["encode"](images=tf.constant(binary))["loc"].numpy()


@pytest.fixture
def scores(files, candidate, loc):
    return measurements.read_test_split(
        files, "bits", candidate=candidate, baseline=None, loc=loc
    )


def test_each_image_has_its_elbo_and_its_posterior_mean(vae, scores, binary):
    noise = fixed_noise.normal(binary, SEED, samples=SAMPLES, latent_size=3)
    expected = vae.elbo_terms(binary, noise).elbo()
    np.testing.assert_allclose(scores.elbo, expected, rtol=1e-4)
    np.testing.assert_allclose(scores.loc, vae.encode(binary).mean(), atol=1e-5)
    np.testing.assert_array_equal(scores.pixels, binary)
    np.testing.assert_array_equal(scores.labels, LABELS)
    assert scores.baseline is None


def test_grey_pixels_are_fractions(tmp_path, images, loc):
    transformed.write(tmp_path / "grey.gz", images, images > 0.5, LABELS)
    found = measurements.read_test_split(
        [str(tmp_path / "grey.gz")],
        "pixels",
        candidate=make_scores(np.zeros(12)),
        baseline=None,
        loc=loc,
    )
    np.testing.assert_allclose(found.pixels, images, rtol=1e-6)
    assert found.pixels.dtype == np.float32


def test_scores_in_another_order_are_those_of_the_same_images(files, candidate, loc):
    order = np.random.default_rng(3).permutation(12)
    baseline = make_scores(np.arange(12.0))
    both = measurements.read_test_split(
        files,
        "bits",
        candidate=candidate.take(order),
        baseline=baseline.take(order[::-1]),
        loc=loc,
    )
    np.testing.assert_array_equal(both.elbo, candidate.elbo)
    np.testing.assert_array_equal(both.baseline, np.arange(12.0))


def test_no_images_are_named(tmp_path, candidate, loc):
    path = str(tmp_path / "none.gz")
    tf.io.TFRecordWriter(path, "GZIP").close()
    with pytest.raises(SplitError, match=r"must have images, .*none\.gz has none"):
        measurements.read_test_split(
            [path], "bits", candidate=candidate, baseline=None, loc=loc
        )
    assert measurements.count_labels([path]) == {}


def test_images_that_were_not_measured_are_counted(files, candidate, loc):
    with pytest.raises(
        measurements.MeasurementError, match="test split must have the 9 images"
    ) as error:
        measurements.read_test_split(
            files, "bits", candidate=candidate, baseline=None, loc=loc[:9]
        )
    assert str(error.value).endswith("that Bounds measured, got 12")


def test_scores_of_other_images_are_named(files, loc):
    with pytest.raises(ScoresError, match="must be of the 12 images") as error:
        measurements.read_test_split(
            *(files, "bits"),
            candidate=make_scores(np.zeros(9), LABELS[:9]),
            baseline=None,
            loc=loc,
        )
    assert str(error.value) == (
        "the scores must be of the 12 images of the test split, got 9 images: run the "
        "steps BaselineScores and CandidateScores again"
    )


def test_scores_of_other_labels_are_named(files, loc):
    labels = LABELS.copy()
    labels[3] = 9
    with pytest.raises(ScoresError, match="same label in the scores") as error:
        measurements.read_test_split(
            *(files, "bits"),
            candidate=make_scores(np.zeros(12), labels),
            baseline=None,
            loc=loc,
        )
    assert str(error.value) == (
        "image 3 of the test split must have the same label in the scores, got 9 in "
        "place of 4: run the steps BaselineScores and CandidateScores again"
    )


def test_labels_of_ingests_examples_are_counted(tmp_path):
    path = str(tmp_path / "raw.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for label in LABELS:
            example = tf.train.Example()
            feature = example.features.feature
            feature["image"].bytes_list.value.append(bytes(784))
            feature["label"].int64_list.value.append(label)
            writer.write(example.SerializeToString())
    labels, counts = np.unique(LABELS, return_counts=True)
    assert measurements.count_labels([path]) == dict(zip(labels, counts))


@pytest.fixture
def digits(scores, signatures):
    return measurements.generate_digits(scores, signatures)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_one_image_of_each_label_is_rebuilt(vae, digits, binary):
    first = [1, 8, 0, 4]  # the first images of labels 1, 2, 4 and 7
    np.testing.assert_array_equal(digits.labels, [1, 2, 4, 7])
    mean = vae.decode(vae.encode(binary[first]).mean()).mean()
    np.testing.assert_array_equal(digits.ten[0], binary[first])
    close(digits.ten[2], mean)
    close(digits.ten[1], np.round(mean))


def test_samples_are_modes(digits):
    assert digits.samples.shape == (96, 28, 28, 1)
    assert set(np.unique(digits.samples)) == {0.0, 1.0}


def test_a_traversal_moves_one_latent(vae, digits, scores):
    spread = scores.loc.std(axis=0)
    assert list(spread[digits.latents]) == sorted(spread, reverse=True)
    assert (digits.steps[0], digits.steps[5], digits.steps[-1]) == (-3, 0, 3)
    latent = digits.latents[1]
    z = np.tile(scores.loc[1], [11, 1])
    z[:, latent] = scores.loc[:, latent].mean() + digits.steps * spread[latent]
    close(digits.traversals[1], vae.decode(z).mean())


def test_interpolations_end_at_the_images(digits):
    # from 1 to 2, and from 4 to 7
    assert digits.interpolations.shape == (2, 11, 28, 28, 1)
    close(digits.interpolations[0, 0], digits.ten[2, 0])
    close(digits.interpolations[0, -1], digits.ten[2, 1])
    close(digits.interpolations[1, -1], digits.ten[2, 3])


def test_the_worst_come_first(digits, scores, vae):
    np.testing.assert_array_equal(digits.worst, np.argsort(scores.elbo)[:10])
    worst = vae.encode(scores.pixels[digits.worst]).mean()
    close(digits.worst_means, vae.decode(worst).mean())


def test_one_label_alone_has_its_pictures(scores, signatures):
    alone = scores._replace(labels=np.full(12, 3))
    digits = measurements.generate_digits(alone, signatures)
    assert digits.ten.shape[:2] == (3, 1)
    assert digits.interpolations.shape[:2] == (1, 11)


def test_an_elbo_that_is_no_number_is_the_worst(scores, signatures):
    elbo = scores.elbo.copy()
    elbo[6] = np.nan
    digits = measurements.generate_digits(scores._replace(elbo=elbo), signatures)
    assert digits.worst[0] == 6


def test_means_that_are_no_numbers_are_named(scores, signatures):
    broken = scores._replace(loc=scores.loc * np.nan)
    with pytest.raises(
        measurements.MeasurementError, match="posterior's means must be finite numbers"
    ):
        measurements.generate_digits(broken, signatures)


def test_the_plane_is_scikit_learns():
    rng = np.random.default_rng(0)
    loc = rng.normal(size=[200, 5]) @ rng.normal(size=[5, 5]) + 3
    plane, shares = measurements.compute_principal_plane(loc.astype(np.float32))
    pca = sklearn.decomposition.PCA(2)
    expected = pca.fit_transform(loc)
    np.testing.assert_allclose(np.abs(plane), np.abs(expected), atol=1e-4)
    np.testing.assert_allclose(shares, pca.explained_variance_ratio_, rtol=1e-5)


def test_the_plane_of_one_latent_is_a_line():
    loc = np.random.default_rng(0).normal(size=[50, 1])
    plane, shares = measurements.compute_principal_plane(loc)
    np.testing.assert_allclose(np.abs(plane[:, 0]), np.abs(loc - loc.mean())[:, 0])
    assert not plane[:, 1].any()
    np.testing.assert_allclose(shares, [1, 0])

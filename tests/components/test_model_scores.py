"""The ModelScores component, with transformed examples and models of known scores."""

import logging
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as tfk
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from components.datasets.idx import SplitError
from components.evaluation.measure import BATCH, SignatureError
from components.evaluation.scores import ScoresError
from components.model_scores import ModelScores, read_scores
from model import export, fixed_noise
from model.training import progress
from model.vae import VAE
from tests.support import evaluations, old_exports, transformed
from tests.support.configs import demo_model

COUNT = 2 * BATCH + 3
TERMS = ("elbo", "reconstruction", "kl")


class FirstPixels(tf.Module):
    """A model whose terms are the first two pixels of an example."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.shift = tf.Variable(shift)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def elbo_examples(self, examples):
        spec = {"pixels": tf.io.FixedLenFeature([], tf.string)}
        encoded = tf.io.parse_example(examples, spec)["pixels"]
        pixels = tf.cast(tf.io.decode_raw(encoded, tf.uint8), tf.float32)
        reconstruction, kl = self.shift - pixels[:, 0], pixels[:, 1]
        return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def means(self, examples):
        terms = self.elbo_examples(examples)
        return {name: tf.reduce_mean(value) for name, value in terms.items()}


@pytest.fixture(scope="module")
def pixels():
    """Returns 8-bit images as floats in [0, 1]."""
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, [COUNT, 28, 28, 1]) / 255).astype(np.float32)


LABELS = np.arange(COUNT) % 10


@pytest.fixture(scope="module")
def examples(tmp_path_factory, pixels):
    """Returns Examples whose test split has three files."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(tmp_path_factory.mktemp("examples"))
    artifact.split_names = artifact_utils.encode_split_names(["train", "test"])
    bits = np.zeros_like(pixels)
    parts = [("test", 0, 100), ("test", 100, 101), ("test", 101, COUNT)]
    for split, start, stop in [*parts, ("train", 0, 9)]:
        path = pathlib.Path(artifact.uri, f"Split-{split}", f"examples-{start:05}.gz")
        path.parent.mkdir(exist_ok=True)
        rows = slice(start, stop)
        transformed.write(path, pixels[rows], bits[rows], LABELS[rows])
    return artifact


def model_of(folder, module, **signatures):
    artifact = standard_artifacts.Model()
    artifact.uri = str(folder / "model")
    tf.saved_model.save(
        module, path_utils.serving_model_dir(artifact.uri), signatures=signatures
    )
    return artifact


def first_pixels(folder, shift=0.0):
    module = FirstPixels(shift)
    return model_of(folder, module, elbo_examples=module.elbo_examples)


def run(folder, model, examples):
    """Runs the ModelScores step; returns its output."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder / "scores")
    (folder / "scores").mkdir()
    ModelScores.test_call(model=model, examples=examples, scores=artifact)
    return artifact


def test_each_image_is_scored_in_the_order_of_the_files(tmp_path, examples, pixels):
    scores = read_scores(run(tmp_path, first_pixels(tmp_path), examples))
    np.testing.assert_array_equal(scores.images, np.arange(COUNT))
    np.testing.assert_array_equal(scores.labels, LABELS)
    first, second = (np.round(255.0 * pixels[:, 0, i, 0]) for i in (0, 1))
    np.testing.assert_array_equal(scores.reconstruction, -first)
    np.testing.assert_array_equal(scores.kl, second)
    np.testing.assert_array_equal(scores.elbo, -first - second)


def test_the_output_is_tfx_examples(tmp_path, examples):
    found = run(tmp_path, first_pixels(tmp_path), examples)
    assert artifact_utils.decode_split_names(found.split_names) == ["test"]
    assert examples_utils.get_payload_format(found) == (
        example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
    )
    assert found.get_int_custom_property("images") == COUNT
    files = tf.io.gfile.glob(f"{artifact_utils.get_split_uri([found], 'test')}/*")
    records = tf.data.TFRecordDataset(files, compression_type="GZIP")
    assert sum(1 for _ in records) == COUNT


def test_an_export_gets_its_own_binarization_and_noise(tmp_path, images, binary):
    tfk.utils.set_random_seed(1)
    vae = VAE(demo_model(network="dense", latent_size=3, hidden_units=16))
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")
    folder = path_utils.serving_model_dir(model.uri)
    export.export(vae, folder, samples=2, seed=5)
    examples = standard_artifacts.Examples()
    examples.uri = str(tmp_path / "examples")
    examples.split_names = artifact_utils.encode_split_names(["test"])
    (tmp_path / "examples" / "Split-test").mkdir(parents=True)
    path = tmp_path / "examples" / "Split-test" / "one.gz"
    transformed.write(path, images, binary)
    scores = read_scores(run(tmp_path, model, examples))
    noise = fixed_noise.normal(binary, 5, samples=2, latent_size=3)
    terms = vae.elbo_terms(binary, noise)
    np.testing.assert_allclose(scores.elbo, terms.elbo(), rtol=1e-4)
    np.testing.assert_allclose(scores.reconstruction, terms.reconstruction, rtol=1e-4)
    np.testing.assert_allclose(scores.kl, terms.kl, rtol=1e-4)


@pytest.mark.parametrize("likelihood", old_exports.FEATURES)
def test_an_export_of_an_older_release_gets_the_scores_that_it_had(
    tmp_path, likelihood
):
    model = old_exports.model(tmp_path / "old", likelihood)
    examples = old_exports.todays_examples(tmp_path / "examples")
    scores = read_scores(run(tmp_path, model, examples))
    for name, expected in old_exports.scores(likelihood).items():
        np.testing.assert_allclose(
            getattr(scores, name), expected, rtol=1e-5, atol=1e-5
        )
    np.testing.assert_array_equal(scores.labels, old_exports.labels())


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_scores_that_are_not_finite_are_written(tmp_path, examples, value):
    scores = read_scores(run(tmp_path, first_pixels(tmp_path, value), examples))
    np.testing.assert_array_equal(scores.elbo, np.full(COUNT, value))


def test_no_served_version_has_no_scores(tmp_path, examples):
    none = standard_artifacts.Model()
    none.uri = str(tmp_path / "none")
    found = run(tmp_path, none, examples)
    assert read_scores(found) is None
    assert list(pathlib.Path(found.uri).iterdir()) == []


def test_scores_that_were_lost_are_not_no_scores(tmp_path, examples):
    found = run(tmp_path, first_pixels(tmp_path), examples)
    (path,) = pathlib.Path(found.uri, "Split-test").iterdir()
    path.unlink()
    with pytest.raises(ScoresError, match="which does not exist"):
        read_scores(found)


def test_progress_is_logged(tmp_path, examples, caplog, monkeypatch):
    monkeypatch.setattr(progress, "_MEASURED_EVERY", 0.0)
    with caplog.at_level(logging.INFO, "model.training.progress"):
        run(tmp_path, first_pixels(tmp_path), examples)
    ours = [r for r in caplog.records if r.name == "model.training.progress"]
    first, second, last = (record.getMessage() for record in ours)
    elbo = r"ELBO -\d+\.\d\d nats"
    # The first batch loads kernels, so the line has no rate yet.
    assert re.fullmatch(rf"{BATCH} of {COUNT} images  {elbo}", first)
    pace = r"[\d,]+ images/s  \d+ s left"
    assert re.fullmatch(rf"{2 * BATCH} of {COUNT} images  {elbo}  {pace}", second)
    assert re.fullmatch(rf"{COUNT} of {COUNT} images  {elbo}  .* 0 s left", last)


def test_no_images_are_named(tmp_path):
    examples = evaluations.make_empty_examples(tmp_path / "examples")
    with pytest.raises(SplitError, match="the test split must have images") as error:
        run(tmp_path, first_pixels(tmp_path), examples)
    assert str(error.value).endswith(f"{examples.uri}/Split-test/* has none")


def test_a_model_without_the_signature_is_named(tmp_path, examples):
    module = FirstPixels()
    model = model_of(tmp_path, module, other=module.elbo_examples)
    with pytest.raises(SignatureError, match="must have the signature elbo_examples"):
        run(tmp_path, model, examples)


def test_terms_that_are_not_one_for_each_image_are_named(tmp_path, examples):
    module = FirstPixels()
    model = model_of(tmp_path, module, elbo_examples=module.means)
    with pytest.raises(SignatureError, match="elbo_examples must return") as error:
        run(tmp_path, model, examples)
    assert str(error.value) == (
        "the signature elbo_examples must return elbo, reconstruction, kl of shape "
        f"({BATCH},) for {BATCH} images, got {{'elbo': (), 'kl': (), "
        "'reconstruction': ()}: train the model anew"
    )


def test_a_signature_that_fails_fails_the_step(tmp_path, examples):
    """No model is refused by that: the run ends with an error, before any decision."""

    class Failing(FirstPixels):
        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.string, name="examples")]
        )
        def elbo_examples(self, examples):
            failure = tf.debugging.Assert(tf.constant(False), ["broken"])
            with tf.control_dependencies([failure]):
                zeros = tf.zeros(tf.shape(examples)) + self.shift
            return dict.fromkeys(TERMS, zeros)

    module = Failing()
    model = model_of(tmp_path, module, elbo_examples=module.elbo_examples)
    with pytest.raises(tf.errors.InvalidArgumentError, match="broken"):
        run(tmp_path, model, examples)

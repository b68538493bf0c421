"""The Evaluator's gate, with TFMA's real measurements of models with known answers."""

import math

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.util import examples_utils, model_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, channel_utils, standard_artifacts
from tfx.utils import path_utils

from components.evaluation.estimate import SPLIT
from components.evaluator import (
    Evaluator,
    list_refusals,
    make_eval_config,
    read_evaluation,
)
from model import export
from model.vae import VAE
from tests.support import old_exports
from tests.support.configs import demo_model


class Scores(tf.Module):
    """A model that reads the ELBO terms from the examples, and adds a shift."""

    def __init__(self, shift):
        super().__init__()
        self.shift = tf.Variable(shift, dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def elbo_examples(self, examples):
        feature = tf.io.FixedLenFeature([], tf.float32)
        parsed = tf.io.parse_example(
            examples, {"reconstruction": feature, "kl": feature}
        )
        reconstruction = parsed["reconstruction"] + self.shift
        kl = parsed["kl"]
        return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}


@pytest.fixture(scope="module")
def scores():
    """Returns the reconstruction, KL and label of 300 images; label 7 is far worse."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 300)
    reconstruction = rng.normal(-70, 10, 300) - np.where(labels == 7, 50, 0)
    kl = rng.uniform(10, 20, 300)
    return reconstruction.astype(np.float32), kl.astype(np.float32), labels


def examples_of(folder, reconstruction, kl, labels):
    """Returns an artifact whose test split has these examples."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(["train", "test"])
    examples_utils.set_payload_format(
        artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
    )
    (folder / "Split-test").mkdir(parents=True)
    path = str(folder / "Split-test" / "transformed_examples-00000-of-00001.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for row in zip(reconstruction, kl, labels):
            example = tf.train.Example()
            feature = example.features.feature
            feature["reconstruction"].float_list.value.append(row[0])
            feature["kl"].float_list.value.append(row[1])
            feature["label"].int64_list.value.append(row[2])
            writer.write(example.SerializeToString())
    return artifact


@pytest.fixture
def examples(tmp_path, scores):
    return examples_of(tmp_path / "examples", *scores)


def model_of(folder, shift):
    """Returns a model's artifact; for None, ServedModel's artifact for no baseline."""
    artifact = standard_artifacts.Model()
    artifact.uri = str(folder)
    folder.mkdir()
    if shift is not None:
        scores = Scores(shift)
        signatures = {"elbo_examples": scores.elbo_examples}
        path = path_utils.serving_model_dir(artifact.uri)
        tf.saved_model.save(scores, path, signatures=signatures)
    return artifact


def evaluate(folder, examples, baseline=None, floor=-100.0, binary=True):
    """Runs the Evaluator, candidate shift 0; returns its evaluation and blessing."""
    candidate = model_of(folder / "candidate", 0.0)
    of_baseline = model_of(folder / "baseline", baseline)
    return evaluate_models(folder, examples, candidate, of_baseline, floor, binary)


def evaluate_models(folder, examples, candidate, baseline, floor, binary=True):
    """Runs the Evaluator for two models; returns its evaluation and blessing."""
    inputs = {
        "examples": [examples],
        "model": [candidate],
        "baseline_model": [baseline],
    }
    component = Evaluator(
        **{key: channel_utils.as_channel(value) for key, value in inputs.items()},
        example_splits=[SPLIT],
        eval_config=make_eval_config(floor, tolerance=0.5, binary=binary),
    )
    outputs = {key: channel.type() for key, channel in component.outputs.items()}
    for key, artifact in outputs.items():
        artifact.uri = str(folder / key)
    component.executor_spec.executor_class().Do(
        inputs, {key: [out] for key, out in outputs.items()}, component.exec_properties
    )
    return outputs["evaluation"].uri, outputs["blessing"]


def assert_measured(measured, scores, shift=0.0):
    """Asserts that the measurements are the means that NumPy computes."""
    reconstruction, kl, labels = (values.astype(np.float64) for values in scores)
    reconstruction = reconstruction + shift
    elbo = reconstruction - kl
    assert measured.elbo == pytest.approx(np.mean(elbo), rel=1e-6)
    assert measured.reconstruction == pytest.approx(np.mean(reconstruction), rel=1e-6)
    assert measured.kl == pytest.approx(np.mean(kl), rel=1e-6)
    assert measured.elbo_by_label == {
        label: pytest.approx(np.mean(elbo[labels == label]), rel=1e-6)
        for label in range(10)
    }


def test_the_first_model_is_held_against_the_floor(tmp_path, examples, scores):
    uri, blessing = evaluate(tmp_path, examples, baseline=None)
    found = read_evaluation(uri)
    assert_measured(found.candidate, scores)
    assert found.baseline is None
    assert found.images == 300
    assert model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == []
    # One label alone would not have passed.
    assert found.candidate.elbo_by_label[7] < -120


def test_a_little_worse_than_the_baseline_is_blessed(tmp_path, examples, scores):
    uri, blessing = evaluate(tmp_path, examples, baseline=0.45)
    found = read_evaluation(uri)
    assert_measured(found.candidate, scores)
    assert_measured(found.baseline, scores, shift=0.45)
    assert found.images == 300
    assert model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == []


def test_more_than_a_little_worse_is_refused(tmp_path, examples):
    uri, blessing = evaluate(tmp_path, examples, baseline=0.55)
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == [
        "ELBO -0.55 against the baseline must be at least -0.50 nats per image"
    ]


def test_under_the_floor_is_refused_though_better(tmp_path, examples, scores):
    mean = np.mean(scores[0] - scores[1], dtype=np.float64)
    uri, blessing = evaluate(tmp_path, examples, baseline=-3.0, floor=mean + 0.01)
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == [
        f"ELBO {mean:.2f} must be at least the floor, {mean + 0.01:.2f} nats per image"
    ]


def test_one_nan_is_refused(tmp_path, scores):
    reconstruction, kl, labels = scores
    reconstruction = np.where(np.arange(300) == 17, np.nan, reconstruction)
    examples = examples_of(tmp_path / "examples", reconstruction, kl, labels)
    uri, blessing = evaluate(tmp_path, examples, baseline=0.0)
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == [
        "ELBO nan must be at least the floor, -100.00 nats per image",
        "ELBO +nan against the baseline must be at least -0.50 nats per image",
    ]
    candidate = read_evaluation(uri).candidate
    assert math.isnan(candidate.elbo)
    assert math.isnan(candidate.reconstruction)
    assert candidate.kl == pytest.approx(np.mean(kl, dtype=np.float64), rel=1e-6)
    of_nan = [k for k, elbo in candidate.elbo_by_label.items() if math.isnan(elbo)]
    assert of_nan == [labels[17]]


def test_an_elbo_above_zero_is_refused(tmp_path, scores):
    """The density of a binary image is at most 1, so its ELBO is at most 0."""
    reconstruction, kl, labels = scores
    reconstruction = np.where(np.arange(300) == 17, np.inf, reconstruction)
    examples = examples_of(tmp_path / "examples", reconstruction, kl, labels)
    uri, blessing = evaluate(tmp_path, examples)
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == ["ELBO inf must not be above 0 nats per image"]


def test_a_density_may_be_above_one(tmp_path, scores):
    reconstruction, kl, labels = scores
    examples = examples_of(tmp_path / "examples", reconstruction + 500, kl, labels)
    uri, blessing = evaluate(tmp_path, examples, binary=False)
    assert model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == []


def test_no_images_are_refused(tmp_path):
    uri, blessing = evaluate(tmp_path, examples_of(tmp_path / "examples", [], [], []))
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == [
        "the evaluation has none of the slices that the gate requires"
    ]


def test_a_baseline_of_an_older_release_gets_the_elbo_that_it_had(tmp_path):
    """The images, bits and noise are the same, in Transform's new format."""
    likelihood = "bernoulli"
    baseline = old_exports.model(tmp_path / "baseline", likelihood)
    # An export of this release with the same weights must get the same ELBO.
    served = tf.saved_model.load(path_utils.serving_model_dir(baseline.uri))
    vae = VAE(demo_model(latent_size=2, hidden_units=8, likelihood=likelihood))
    for variable, value in zip(vae.variables, served.variables_):
        variable.assign(value)
    candidate = standard_artifacts.Model()
    candidate.uri = str(tmp_path / "candidate")
    folder = path_utils.serving_model_dir(candidate.uri)
    export.export(vae, folder, samples=2, seed=5)

    examples = old_exports.todays_examples(tmp_path / "examples")
    uri, blessing = evaluate_models(tmp_path, examples, candidate, baseline, -1e4)
    found = read_evaluation(uri)
    expected, labels = old_exports.scores(likelihood), old_exports.labels()
    for measured in (found.baseline, found.candidate):
        for name, values in expected.items():
            assert getattr(measured, name) == pytest.approx(values.mean(), rel=1e-5)
        assert measured.elbo_by_label == {
            label: pytest.approx(expected["elbo"][labels == label].mean(), rel=1e-5)
            for label in range(3)
        }
    assert found.images == len(labels)
    assert model_utils.is_model_blessed(blessing)
    assert not (tmp_path / "evaluation" / "old_examples").exists()

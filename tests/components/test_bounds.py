"""The Bounds component, with transformed examples and exports of known answers."""

import json
import logging
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from components.bounds import Bounds, read_bounds, read_latents
from components.datasets.idx import SplitError
from components.evaluation.measure import BATCH, SignatureError
from components.evaluation.scores import Scores, ScoresError
from model.training import progress
from tests.support import evaluations, old_exports, transformed
from tests.support.known_model import KnownModel

COUNT = 2 * BATCH + 3
VARIANCES = np.array([1.0, 0.02, 0.005, 0.0])


@pytest.fixture(scope="module")
def pixels():
    """Returns `pixels`, 8-bit images as floats in [0, 1], and `bits`, both random."""
    rng = np.random.default_rng(0)
    return {
        "pixels": (rng.integers(0, 256, [COUNT, 28, 28, 1]) / 255).astype(np.float32),
        "bits": rng.integers(0, 2, [COUNT, 28, 28, 1]),
    }


@pytest.fixture(scope="module")
def examples(tmp_path_factory, pixels):
    artifact = standard_artifacts.Examples()
    artifact.uri = str(tmp_path_factory.mktemp("examples"))
    artifact.split_names = artifact_utils.encode_split_names(["train", "test"])
    for split, start, stop in [("test", 0, 200), ("test", 200, COUNT), ("train", 0, 9)]:
        path = pathlib.Path(artifact.uri, f"Split-{split}", f"examples-{start:05}.gz")
        path.parent.mkdir(exist_ok=True)
        transformed.write(path, pixels["pixels"][start:stop], pixels["bits"])
    return artifact


def model_of(folder, module, **signatures):
    artifact = standard_artifacts.Model()
    artifact.uri = str(folder / "model")
    tf.saved_model.save(
        module, path_utils.serving_model_dir(artifact.uri), signatures=signatures
    )
    return artifact


def known(folder, scales=(1, 1, 1, 1), shift=0.0):
    module = KnownModel(scales, shift)
    return model_of(folder, module, iwae=module.iwae, encode=module.encode)


def make_scores(count=COUNT):
    """Returns scores of images whose labels are all 0, as those of `transformed`."""
    return Scores(
        images=np.arange(count),
        labels=np.zeros(count, np.int64),
        elbo=np.linspace(-120, -60, count),
        reconstruction=np.linspace(-100, -40, count),
        kl=np.full(count, 20.0),
    )


def run(folder, model, examples, feature="pixels", samples=8, scores=None):
    """Runs the Bounds step; returns its output folder."""
    scores = make_scores() if scores is None else scores
    artifact = standard_artifacts.ModelEvaluation()
    artifact.uri = str(folder / "bounds")
    (folder / "bounds").mkdir()
    Bounds.test_call(
        model=model,
        examples=examples,
        scores=evaluations.write_scores(folder / "scores", scores),
        bounds=artifact,
        feature=feature,
        samples=samples,
    )
    return artifact.uri


def test_the_whole_test_split_is_measured(tmp_path, examples, pixels):
    images = np.float64(pixels["pixels"])
    # The scales give the latents the variances VARIANCES.
    scales = np.sqrt(VARIANCES / images[:, 1, :4, 0].var(axis=0))
    uri = run(tmp_path, known(tmp_path, scales), examples)
    found = read_bounds(uri)
    assert found.images == COUNT
    # The ELBO is the mean of the scores.
    assert found.reconstruction == pytest.approx(-70.0, rel=1e-6)
    assert (found.kl, found.elbo) == (20.0, pytest.approx(-90.0, rel=1e-6))
    assert found.iwae == pytest.approx(-100 * images[:, 20, 20].mean() / 8, rel=1e-5)
    assert (found.active_dimensions, found.latent_size) == (2, 4)
    assert found.describe_active() == "2 of 4"
    path, other = sorted(pathlib.Path(uri).iterdir())
    assert (path.name, other.name) == ("bounds.json", "latents.npy")
    assert json.loads(path.read_text()) == found._asdict()
    assert found.k == 8


def test_each_image_has_its_posterior_mean(tmp_path, examples, pixels):
    images = pixels["pixels"]
    loc = read_latents(run(tmp_path, known(tmp_path, [1, 2, 3, 4]), examples))
    np.testing.assert_allclose(loc, 5 + images[:, 1, :4, 0] * [1, 2, 3, 4])
    assert loc.dtype == np.float32


def test_scores_of_fewer_images_are_named(tmp_path, examples):
    with pytest.raises(ScoresError, match="the scores must be of the 259 images"):
        run(tmp_path, known(tmp_path), examples, scores=make_scores(COUNT - 1))


def test_scores_that_are_missing_are_named(tmp_path, examples):
    artifact = standard_artifacts.ModelEvaluation()
    artifact.uri = str(tmp_path)
    with pytest.raises(ScoresError, match="the candidate must have scores"):
        Bounds.test_call(
            model=known(tmp_path),
            examples=examples,
            scores=evaluations.write_scores(tmp_path / "scores", None),
            bounds=artifact,
            feature="pixels",
            samples=1,
        )


def test_the_feature_is_what_the_model_takes(tmp_path, examples, pixels):
    uri = run(tmp_path, known(tmp_path), examples, "bits", samples=1)
    # both files have the bits of the first images
    first = [*range(200), *range(COUNT - 200)]
    expected = -100 * pixels["bits"][first][:, 20, 20].mean()
    assert read_bounds(uri).iwae == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_bound_that_is_not_finite_is_reported(tmp_path, examples, value):
    uri = run(tmp_path, known(tmp_path, shift=value), examples)
    np.testing.assert_equal(read_bounds(uri).iwae, value)


def test_progress_is_logged(tmp_path, examples, caplog, monkeypatch):
    monkeypatch.setattr(progress, "_MEASURED_EVERY", 0.0)
    with caplog.at_level(logging.INFO, "model.training.progress"):
        run(tmp_path, known(tmp_path), examples)
    ours = [r for r in caplog.records if r.name == "model.training.progress"]
    first, second, last = (record.getMessage() for record in ours)
    bound = r"importance-weighted bound \(k = 8\) -\d+\.\d\d nats"
    # The first batch loads kernels, so the line has no rate yet.
    assert re.fullmatch(rf"{BATCH} of {COUNT} images  {bound}", first)
    pace = r"[\d,]+ images/s  \d+ s left"
    assert re.fullmatch(rf"{2 * BATCH} of {COUNT} images  {bound}  {pace}", second)
    assert re.fullmatch(rf"{COUNT} of {COUNT} images  {bound}  .* 0 s left", last)


@pytest.mark.parametrize("likelihood", old_exports.FEATURES)
def test_an_export_of_an_older_release_is_measured(tmp_path, likelihood):
    model = old_exports.model(tmp_path / "old", likelihood)
    examples = old_exports.todays_examples(tmp_path / "examples")
    terms = old_exports.scores(likelihood)
    labels = old_exports.labels()
    scores = Scores(images=np.arange(len(labels)), labels=labels, **terms)
    uri = run(
        *(tmp_path, model, examples, old_exports.FEATURES[likelihood]), scores=scores
    )
    found = read_bounds(uri)
    assert found.elbo == pytest.approx(np.mean(terms["elbo"]), rel=1e-5)
    assert found.iwae >= found.elbo  # of 8 draws, whose first ones are the ELBO's


def test_no_images_are_named(tmp_path):
    examples = evaluations.make_empty_examples(tmp_path / "examples")
    with pytest.raises(SplitError, match="the test split must have images") as error:
        run(tmp_path, known(tmp_path), examples)
    assert str(error.value).endswith(f"{examples.uri}/Split-test/* has none")


def test_a_model_of_an_older_release_is_named(tmp_path, examples):
    module = KnownModel([1, 1, 1, 1])
    model = model_of(tmp_path, module, encode=module.encode)
    with pytest.raises(SignatureError, match="must have the signatures") as error:
        run(tmp_path, model, examples)
    assert str(error.value) == (
        "the model must have the signatures iwae and encode, it lacks iwae: an older "
        "release exported it, train it anew"
    )

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

from components import bounds
from components.bounds import Bounds, read_bounds, read_per_image
from components.datasets.idx import SplitError
from components.evaluation.measure import BATCH, SignatureError
from tests.support import old_exports, transformed
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
    return model_of(
        folder, module, elbo=module.elbo, iwae=module.iwae, encode=module.encode
    )


def run(folder, model, examples, feature="pixels", samples=8):
    """Runs the Bounds step; returns its output folder."""
    artifact = standard_artifacts.ModelEvaluation()
    artifact.uri = str(folder / "bounds")
    (folder / "bounds").mkdir()
    Bounds.test_call(
        model=model,
        examples=examples,
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
    assert found.reconstruction == pytest.approx(-images[:, 0, 0].mean(), rel=1e-5)
    assert found.kl == pytest.approx(images[:, 0, 1].mean(), rel=1e-5)
    assert found.elbo == pytest.approx(found.reconstruction - found.kl, rel=1e-5)
    assert found.iwae == pytest.approx(-100 * images[:, 20, 20].mean() / 8, rel=1e-5)
    assert (found.active_dimensions, found.latent_size) == (2, 4)
    assert found.describe_active() == "2 of 4"
    path, other = sorted(pathlib.Path(uri).iterdir())
    assert (path.name, other.name) == ("bounds.json", "images.npz")
    assert json.loads(path.read_text()) == found._asdict()
    assert found.k == 8


def test_each_image_has_its_elbo_and_its_posterior_mean(tmp_path, examples, pixels):
    images = pixels["pixels"]
    found = read_per_image(run(tmp_path, known(tmp_path, [1, 2, 3, 4]), examples))
    elbo = -images[:, 0, 0, 0] - images[:, 0, 1, 0]
    np.testing.assert_allclose(found.elbo, elbo, rtol=1e-6)
    np.testing.assert_allclose(found.loc, 5 + images[:, 1, :4, 0] * [1, 2, 3, 4])
    assert (found.elbo.dtype, found.loc.dtype) == (np.float64, np.float32)


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
    monkeypatch.setattr(bounds, "_REPORT_EVERY", 0.0)
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
    uri = run(tmp_path, model, examples, old_exports.FEATURES[likelihood])
    expected = old_exports.scores(likelihood)["elbo"]
    np.testing.assert_allclose(read_per_image(uri).elbo, expected, rtol=1e-5, atol=1e-5)
    assert read_bounds(uri).elbo == pytest.approx(np.mean(expected), rel=1e-5)


def test_no_images_are_named(tmp_path):
    examples = standard_artifacts.Examples()
    examples.uri = str(tmp_path / "examples")
    examples.split_names = artifact_utils.encode_split_names(["test"])
    path = tmp_path / "examples" / "Split-test" / "empty.gz"
    path.parent.mkdir(parents=True)
    tf.io.TFRecordWriter(str(path), "GZIP").close()
    with pytest.raises(SplitError, match="the test split must have images") as error:
        run(tmp_path, known(tmp_path), examples)
    assert str(error.value).endswith(f"{path.parent}/* has none")


def test_a_model_of_an_older_release_is_named(tmp_path, examples):
    module = KnownModel([1, 1, 1, 1])
    model = model_of(tmp_path, module, elbo=module.elbo, encode=module.encode)
    with pytest.raises(SignatureError, match="must have the signatures") as error:
        run(tmp_path, model, examples)
    assert str(error.value) == (
        "the model must have the signatures elbo, iwae and encode, it lacks iwae: an "
        "older release exported it, train it anew"
    )

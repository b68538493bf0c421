"""Scores of images: their file, against TensorFlow's own parser, and their join."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from components.evaluation.scores import Scores, ScoresError, match_baseline


def make_scores(images, shift=0.0):
    """Returns scores of images with these numbers; the terms follow from the number."""
    images = np.asarray(images)
    return Scores(
        images=images,
        labels=images % 10,
        elbo=images - 90.5 + shift,
        reconstruction=images - 70.25 + shift,
        kl=np.full(len(images), 20.25),
    )


def assert_equal(actual, expected):
    for field in dataclasses.fields(Scores):
        values = getattr(actual, field.name)
        np.testing.assert_array_equal(values, getattr(expected, field.name))


def test_scores_are_read_as_they_were_written(tmp_path):
    scores = make_scores(np.random.default_rng(0).permutation(300))
    scores.write(str(tmp_path / "new" / "folder"))
    found = Scores.read(str(tmp_path / "new" / "folder"))
    assert_equal(found, scores)
    assert (found.images.dtype, found.labels.dtype) == (np.int64, np.int64)
    assert {found.elbo.dtype, found.kl.dtype} == {np.dtype(np.float64)}


def test_scores_that_are_not_finite_are_kept(tmp_path):
    scores = dataclasses.replace(
        make_scores(range(3)), elbo=np.array([np.nan, np.inf, -np.inf])
    )
    scores.write(str(tmp_path))
    assert_equal(Scores.read(str(tmp_path)), scores)


def test_no_images_are_no_scores(tmp_path):
    make_scores([]).write(str(tmp_path))
    found = Scores.read(str(tmp_path))
    assert len(found.images) == len(found.elbo) == 0
    assert (found.labels.dtype, found.kl.dtype) == (np.int64, np.float64)


def test_the_file_is_a_split_of_tfx_examples(tmp_path):
    make_scores([7]).write(str(tmp_path))
    (path,) = (tmp_path / "Split-test").iterdir()
    assert path.name == "scores-00000-of-00001.gz"
    (record,) = tf.data.TFRecordDataset(str(path), compression_type="GZIP")
    feature = tf.train.Example.FromString(record.numpy()).features.feature
    assert set(feature) == {"image", "label", "elbo", "reconstruction", "kl"}
    assert feature["image"].int64_list.value == [7]
    assert feature["label"].int64_list.value == [7]
    assert feature["elbo"].float_list.value == [-83.5]
    assert feature["reconstruction"].float_list.value == [-63.25]
    assert feature["kl"].float_list.value == [20.25]


def test_scores_that_are_missing_are_named(tmp_path):
    with pytest.raises(ScoresError, match="the scores of a model must be in ") as error:
        Scores.read(str(tmp_path))
    assert str(error.value).endswith(
        "/Split-test/scores-00000-of-00001.gz, which does not exist: run the step that "
        "writes them again"
    )


def test_the_baseline_gets_the_candidates_order():
    rng = np.random.default_rng(1)
    order, other = rng.permutation(200), rng.permutation(200)
    found = match_baseline(make_scores(order), make_scores(other, shift=1.0))
    assert_equal(found, make_scores(order, shift=1.0))


def test_another_number_of_images_is_an_error():
    with pytest.raises(ScoresError, match="the baseline must have scores") as error:
        match_baseline(make_scores(range(1500)), make_scores(range(1499)))
    assert str(error.value) == (
        "the baseline must have scores of the candidate's 1,500 images, it has 1,499: "
        "run the steps BaselineScores and CandidateScores again"
    )


def test_other_images_are_an_error():
    with pytest.raises(ScoresError, match="of the same images") as error:
        match_baseline(make_scores([0, 1, 2]), make_scores([3, 1, 0]))
    assert str(error.value) == (
        "the baseline and the candidate must have scores of the same images, got "
        "number 3 of the baseline and number 2 of the candidate: run the steps "
        "BaselineScores and CandidateScores again"
    )


def test_another_label_is_an_error():
    candidate = make_scores([2, 0, 1])
    baseline = dataclasses.replace(make_scores([0, 1, 2]), labels=np.array([0, 1, 9]))
    with pytest.raises(ScoresError, match="must have the same label") as error:
        match_baseline(candidate, baseline)
    assert str(error.value) == (
        "image 2 must have the same label in the scores of both models, got 9 in the "
        "baseline's and 2 in the candidate's: run the steps BaselineScores and "
        "CandidateScores again"
    )

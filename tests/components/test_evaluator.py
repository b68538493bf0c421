"""The Evaluator's gate, with TFMA's real metrics of scores with known means."""

import dataclasses
import math

import numpy as np
import pytest
from tfx.components.util import model_utils

from components.evaluation.scores import Scores, ScoresError
from components.evaluator import list_refusals, read_evaluation
from tests.support import evaluations


def make_scores(reconstruction, kl, labels):
    """Returns scores of images that are numbered from 0."""
    reconstruction = np.asarray(reconstruction, np.float32).astype(np.float64)
    kl = np.asarray(kl, np.float32).astype(np.float64)
    return Scores(
        images=np.arange(len(kl)),
        labels=np.asarray(labels, np.int64),
        elbo=(reconstruction - kl).astype(np.float32).astype(np.float64),
        reconstruction=reconstruction,
        kl=kl,
    )


def shifted(scores, shift):
    """Returns scores whose ELBOs and reconstructions are higher by `shift`."""
    return make_scores(scores.reconstruction + shift, scores.kl, scores.labels)


@pytest.fixture(scope="module")
def scores():
    """Returns the scores of 300 images; label 7 is far worse."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 300)
    reconstruction = rng.normal(-70, 10, 300) - np.where(labels == 7, 50, 0)
    return make_scores(reconstruction, rng.uniform(10, 20, 300), labels)


@pytest.fixture
def evaluate(tmp_path):
    """Returns a function that runs the Evaluator: its evaluation and blessing."""

    def evaluate(candidate, baseline=None, *, floor=-100.0, binary=True):
        outputs = evaluations.evaluate(
            *(tmp_path, candidate, baseline),
            elbo_floor=floor,
            tolerance=0.5,
            binary=binary,
        )
        # TFMA read the scores from a folder that is removed.
        assert not (tmp_path / "evaluation" / "predictions").exists()
        return outputs["evaluation"].uri, outputs["blessing"]

    return evaluate


def assert_measured(measured, scores):
    """Asserts that the measurements are the means that NumPy computes."""
    for name in ("elbo", "reconstruction", "kl"):
        expected = np.mean(getattr(scores, name))
        assert getattr(measured, name) == pytest.approx(expected, rel=1e-6)
    assert measured.elbo_by_label == {
        label: pytest.approx(np.mean(scores.elbo[scores.labels == label]), rel=1e-6)
        for label in range(10)
    }


def test_the_first_model_is_held_against_the_floor(evaluate, scores):
    uri, blessing = evaluate(scores)
    found = read_evaluation(uri)
    assert_measured(found.candidate, scores)
    assert found.baseline is None
    assert found.images == 300
    assert model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == []
    # One label alone would not have passed.
    assert found.candidate.elbo_by_label[7] < -120


def test_a_little_worse_than_the_baseline_is_blessed(evaluate, scores):
    baseline = shifted(scores, 0.45)
    uri, blessing = evaluate(scores, baseline)
    found = read_evaluation(uri)
    assert_measured(found.candidate, scores)
    assert_measured(found.baseline, baseline)
    assert found.images == 300
    assert model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == []


def test_more_than_a_little_worse_is_refused(evaluate, scores):
    uri, blessing = evaluate(scores, shifted(scores, 0.55))
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == [
        "ELBO -0.55 against the baseline must be at least -0.50 nats per image"
    ]


def test_the_baseline_may_have_its_images_in_another_order(evaluate, scores):
    """Image by image, the candidate is better by 1, in any order of the files."""
    order = np.random.default_rng(1).permutation(300)
    baseline = shifted(scores, -1.0).take(order)
    uri, blessing = evaluate(scores, baseline)
    assert_measured(read_evaluation(uri).baseline, baseline)
    assert model_utils.is_model_blessed(blessing)


def test_under_the_floor_is_refused_though_better(evaluate, scores):
    mean = np.mean(scores.elbo)
    uri, blessing = evaluate(scores, shifted(scores, -3.0), floor=mean + 0.01)
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == [
        f"ELBO {mean:.2f} must be at least the floor, {mean + 0.01:.2f} nats per image"
    ]


def with_one(scores, value):
    """Returns the scores with another reconstruction of image 17."""
    reconstruction = np.where(scores.images == 17, value, scores.reconstruction)
    return make_scores(reconstruction, scores.kl, scores.labels)


def test_one_nan_is_refused(evaluate, scores):
    uri, blessing = evaluate(with_one(scores, np.nan), scores)
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == [
        "ELBO nan must be at least the floor, -100.00 nats per image",
        "ELBO +nan against the baseline must be at least -0.50 nats per image",
    ]
    candidate = read_evaluation(uri).candidate
    assert math.isnan(candidate.elbo)
    assert math.isnan(candidate.reconstruction)
    assert candidate.kl == pytest.approx(np.mean(scores.kl), rel=1e-6)
    of_nan = [k for k, elbo in candidate.elbo_by_label.items() if math.isnan(elbo)]
    assert of_nan == [scores.labels[17]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_baseline_that_is_not_finite_is_no_reason_to_bless(evaluate, scores, value):
    uri, blessing = evaluate(scores, with_one(scores, value))
    assert not model_utils.is_model_blessed(blessing)
    (refusal,) = list_refusals(uri)
    assert "against the baseline must be at least -0.50" in refusal


def test_two_infinite_scores_have_no_difference(evaluate, scores):
    """Infinity minus infinity is not a number, and is refused."""
    infinite = with_one(scores, np.inf)
    uri, blessing = evaluate(infinite, infinite)
    assert not model_utils.is_model_blessed(blessing)
    assert "ELBO +nan against the baseline must be at least -0.50 nats per image" in (
        list_refusals(uri)
    )


def test_minus_infinity_is_under_each_floor(evaluate, scores):
    uri, blessing = evaluate(with_one(scores, -np.inf))
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == [
        "ELBO -inf must be at least the floor, -100.00 nats per image"
    ]


def test_an_elbo_above_zero_is_refused(evaluate, scores):
    """The density of a binary image is at most 1, so its ELBO is at most 0."""
    uri, blessing = evaluate(with_one(scores, np.inf))
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == ["ELBO inf must not be above 0 nats per image"]


def test_a_density_may_be_above_one(evaluate, scores):
    uri, blessing = evaluate(shifted(scores, 500), binary=False)
    assert model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == []


def test_an_infinite_density_is_refused(evaluate, scores):
    uri, blessing = evaluate(with_one(scores, np.inf), binary=False)
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == ["ELBO inf must be a finite number"]


def test_no_images_are_refused(evaluate):
    uri, blessing = evaluate(make_scores([], [], []))
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == [
        "the evaluation has none of the slices that the gate requires"
    ]


def test_scores_of_other_images_fail_the_step(evaluate, scores):
    """This is no gate decision: the scores are not of one test split."""
    with pytest.raises(ScoresError, match=r"of the candidate's 300 images, it has 299"):
        evaluate(scores, scores.take(np.arange(299)))


def test_scores_of_other_labels_fail_the_step(evaluate, scores):
    other = dataclasses.replace(scores, labels=(scores.labels + 1) % 10)
    with pytest.raises(ScoresError, match="image 0 must have the same label"):
        evaluate(scores, other)


def test_a_candidate_without_scores_fails_the_step(evaluate, scores):
    with pytest.raises(ScoresError, match="the candidate must have scores") as error:
        evaluate(None, scores)
    assert str(error.value) == (
        "the candidate must have scores, CandidateScores found no model: run the "
        "Trainer again"
    )


def test_a_baseline_without_scores_is_not_taken_for_no_baseline(tmp_path, scores):
    """Otherwise the floor alone would decide although a version is served."""
    served = evaluations.make_served(tmp_path / "served", exists=True)
    with pytest.raises(ScoresError) as error:
        evaluations.evaluate(
            *(tmp_path, scores, None), served=served, elbo_floor=-100, tolerance=0.5
        )
    assert str(error.value) == (
        "ServedModel found a model and BaselineScores found none: run both steps again"
    )


def test_scores_of_a_baseline_that_is_not_served_fail_the_step(tmp_path, scores):
    served = evaluations.make_served(tmp_path / "served", exists=False)
    with pytest.raises(ScoresError) as error:
        evaluations.evaluate(
            *(tmp_path, scores, scores), served=served, elbo_floor=-100, tolerance=0.5
        )
    assert str(error.value) == (
        "ServedModel found no model and BaselineScores found one: run both steps again"
    )

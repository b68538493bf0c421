"""The Evaluator's gate, with TFMA's real metrics of scores with known means."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
from tfx.components.util import model_utils

from components.evaluation.evaluation_result import Difference
from components.evaluation.gate_result import Thresholds
from components.evaluation.scores import Scores, ScoresError
from components.evaluator import list_refusals, make_eval_config, read_evaluation
from tests.support import evaluations

RATCHET = (
    "ELBO against the baseline must be at least -0.50 nats per image with 95% "
    "confidence"
)


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
    """Returns scores whose ELBOs and reconstructions are higher by `shift`.

    Args:
      scores: the scores.
      shift: a number, or one for each image.
    """
    higher = make_scores(scores.reconstruction + shift, scores.kl, scores.labels)
    return dataclasses.replace(higher, images=scores.images)


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

    def evaluate(candidate, baseline=None, *, floor=-100.0, **options):
        outputs = evaluations.evaluate(
            *(tmp_path, candidate, baseline),
            **{"elbo_floor": floor, "tolerance": 0.5, **options},
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
    """Without a baseline, a class tolerance refuses nothing."""
    uri, blessing = evaluate(scores, class_tolerance=0.0)
    found = read_evaluation(uri)
    assert_measured(found.candidate, scores)
    assert (found.baseline, found.difference) == (None, None)
    assert found.images == 300
    assert model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == []
    # One label alone would not have passed.
    assert found.candidate.elbo_by_label[7] < -120


def test_a_little_worse_than_the_baseline_is_blessed(evaluate, scores):
    """The files of the baseline's scores may have another order.

    Without a class tolerance, one label may get much worse.
    """
    shift = np.where(scores.labels == 7, 5.0, 0.0)
    shift += find_lower_end(scores, shifted(scores, shift), 0.95) + 0.45
    order = np.random.default_rng(1).permutation(300)
    baseline = shifted(scores, shift).take(order)
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
        f"{RATCHET}, got at least -0.55 (mean -0.55, standard error 0.00, 300 test "
        "images)"
    ]


@pytest.fixture(scope="module")
def uncertain(scores):
    """Returns scores that are worse than `scores` by 0.3, with a spread of 4."""
    noise = np.random.default_rng(2).normal(0.0, 4.0, 300)
    return shifted(scores, noise - np.mean(noise) - 0.3)


def find_lower_end(candidate, baseline, confidence):
    """Returns the lower end of SciPy's paired test."""
    test = scipy.stats.ttest_rel(candidate.elbo, baseline.elbo, alternative="greater")
    return test.confidence_interval(confidence).low


def test_a_mean_that_may_be_luck_is_refused(evaluate, scores, uncertain):
    uri, blessing = evaluate(uncertain, scores)
    found = read_evaluation(uri).difference
    differences = uncertain.elbo - scores.elbo
    assert found == Difference(
        images=300,
        mean=pytest.approx(np.mean(differences), rel=1e-6),
        standard_error=pytest.approx(scipy.stats.sem(differences), rel=1e-6),
        lower_end=pytest.approx(find_lower_end(uncertain, scores, 0.95), rel=1e-6),
        confidence=0.95,
    )
    assert found.mean > -0.5 > found.lower_end
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == [
        f"{RATCHET}, got at least {found.lower_end:+.2f} (mean {found.mean:+.2f}, "
        f"standard error {found.standard_error:.2f}, 300 test images): more test "
        "images would narrow the interval"
    ]


@pytest.mark.parametrize("margin", [1e-4, -1e-4])
def test_the_lower_end_decides(evaluate, scores, uncertain, margin):
    end = find_lower_end(uncertain, scores, 0.8)
    tolerance = margin - end
    uri, blessing = evaluate(uncertain, scores, tolerance=tolerance, confidence=0.8)
    assert read_evaluation(uri).difference.confidence == 0.8
    assert model_utils.is_model_blessed(blessing) == (margin > 0)
    # The message has as many digits as tell the lower end from the threshold.
    expected = [] if margin > 0 else [f"got at least {end:+.4f} ("]
    assert [text for text in expected if text in "".join(list_refusals(uri))] == (
        expected
    )


def test_the_same_model_again_passes_a_tolerance_of_0(evaluate, scores):
    uri, blessing = evaluate(scores, scores, tolerance=0.0)
    assert model_utils.is_model_blessed(blessing)
    found = read_evaluation(uri).difference
    assert (found.mean, found.standard_error, found.lower_end) == (0.0, 0.0, 0.0)


def test_a_better_model_of_one_image_is_refused(evaluate, scores):
    one = scores.take(np.array([0]))
    uri, blessing = evaluate(shifted(one, 1.0), one)
    assert not model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == [
        f"{RATCHET}, got +1.00 and no interval from 1 test image: more test images "
        "would narrow the interval"
    ]
    assert read_evaluation(uri).difference.lower_end == -math.inf


def test_labels_that_get_worse_are_refused_by_their_tolerance(evaluate, scores):
    """The whole is better, since the other labels are."""
    noise = np.random.default_rng(3).normal(0.0, 1.0, 300)
    shift = np.select([scores.labels == 2, scores.labels == 7], [-2.5, -2.2], 1.0)
    candidate = shifted(scores, shift + noise)
    uri, blessing = evaluate(candidate, scores, class_tolerance=1.5)
    assert not model_utils.is_model_blessed(blessing)
    of_each = []
    for label in (2, 7):
        of_label = [each.take(scores.labels == label) for each in (candidate, scores)]
        differences = of_label[0].elbo - of_label[1].elbo
        of_each.append(
            f"for label {label} at least {find_lower_end(*of_label, 0.95):+.2f} (mean "
            f"{np.mean(differences):+.2f}, standard error "
            f"{scipy.stats.sem(differences):.2f}, {len(differences)} test images)"
        )
    assert list_refusals(uri) == [
        "ELBO against the baseline must be at least -1.50 nats per image with 95% "
        f"confidence, got {', '.join(of_each)}"
    ]


def test_a_label_with_one_image_has_no_interval(evaluate, scores):
    labels = np.where(scores.labels == 4, 5, scores.labels)
    labels[0] = 4
    some = dataclasses.replace(scores, labels=labels)
    uri, blessing = evaluate(shifted(some, 0.25), some, class_tolerance=0.75)
    assert not model_utils.is_model_blessed(blessing)
    (refusal,) = list_refusals(uri)
    assert refusal == (
        "ELBO against the baseline must be at least -0.75 nats per image with 95% "
        "confidence, got for label 4 +0.25 and no interval from 1 test image: more "
        "test images would narrow the interval"
    )


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
        f"{RATCHET}, got +nan and no interval from 300 test images",
    ]
    candidate = read_evaluation(uri).candidate
    assert math.isnan(candidate.elbo)
    assert math.isnan(candidate.reconstruction)
    assert candidate.kl == pytest.approx(np.mean(scores.kl), rel=1e-6)
    of_nan = [k for k, elbo in candidate.elbo_by_label.items() if math.isnan(elbo)]
    assert of_nan == [scores.labels[17]]


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


# Independent pixels.


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """Returns Transform's output with 300 test images, and their log-likelihoods."""
    rng = np.random.default_rng(2)
    probability = rng.uniform(0, 1, 784)
    train, test = (rng.random([n, 784]) < probability for n in (200, 300))
    folder = tmp_path_factory.mktemp("transformed")
    on = (train.sum(axis=0) + 1) / (len(train) + 2)
    expected = scipy.stats.bernoulli.logpmf(test, on).sum(axis=1)
    return evaluations.write_examples(folder, train, test), expected


def above(pixels, shift):
    """Returns scores whose ELBOs are above those of independent pixels by `shift`."""
    return make_scores(pixels + shift + 20.0, np.full(300, 20.0), np.arange(300) % 10)


@pytest.mark.parametrize(("floor", "has_baseline"), [(-1000.0, False), ("auto", True)])
def test_independent_pixels_are_measured_beside_each_elbo(
    evaluate, pixels, floor, has_baseline
):
    examples, expected = pixels
    scores = above(expected, 0.01)
    order = np.random.default_rng(1).permutation(300)
    baseline = scores if has_baseline else None
    uri, blessing = evaluate(
        scores.take(order), baseline, floor=floor, examples=examples
    )
    found = read_evaluation(uri)
    assert found.independent_pixels == pytest.approx(expected.mean(), rel=1e-6)
    assert_measured(found.candidate, scores)
    assert model_utils.is_model_blessed(blessing)
    assert list_refusals(uri) == []


def test_a_model_that_learned_less_than_independent_pixels_is_refused(evaluate, pixels):
    """It is refused though it is better than the baseline."""
    examples, expected = pixels
    scores = above(expected, -4.25)
    baseline = above(expected, -300.0)
    uri, blessing = evaluate(scores, baseline, floor="auto", examples=examples)
    assert not model_utils.is_model_blessed(blessing)
    mean = expected.mean()
    assert list_refusals(uri) == [
        f"ELBO {mean - 4.25:.2f} must be above that of independent pixels, {mean:.2f} "
        "nats per image"
    ]


def test_only_the_mean_must_be_above_independent_pixels(evaluate, pixels):
    examples, expected = pixels
    shift = np.where(np.arange(300) % 10 == 7, -50.0, 50.0)
    _, blessing = evaluate(above(expected, shift), floor="auto", examples=examples)
    assert model_utils.is_model_blessed(blessing)


def test_an_elbo_that_is_not_finite_is_refused_without_a_number_as_floor(
    evaluate, pixels
):
    examples, expected = pixels
    scores = with_one(above(expected, 50.0), np.nan)
    uri, blessing = evaluate(scores, floor="auto", examples=examples)
    assert not model_utils.is_model_blessed(blessing)
    sentences = list_refusals(uri)
    assert sentences
    assert all(sentence.startswith("ELBO nan must ") for sentence in sentences)


@pytest.mark.parametrize(("shift", "is_blessed"), [(0.01, True), (-0.01, False)])
def test_grey_pixels_are_compared_by_densities(
    evaluate, pixels, tmp_path, shift, is_blessed
):
    white = np.ones([300, 784], int)
    examples = evaluations.write_examples(tmp_path / "white", white[:9], white)
    # Each pixel's scale is that of the variance 1/12; level 255 has the upper tail.
    level = scipy.stats.logistic(255, 1 / (2 * np.pi)).sf(254.5)
    expected = np.full(300, 784 * np.log(256 * level))
    uri, blessing = evaluate(
        above(expected, shift), floor="auto", binary=False, examples=examples
    )
    found = read_evaluation(uri).independent_pixels
    assert found == pytest.approx(expected[0], rel=1e-6)
    assert model_utils.is_model_blessed(blessing) == is_blessed


def test_scores_of_another_test_split_fail_the_step(evaluate, pixels):
    examples, expected = pixels
    with pytest.raises(ScoresError) as error:
        evaluate(above(expected, 1.0).take(np.arange(299)), examples=examples)
    assert str(error.value) == (
        "the candidate's scores must be of the 300 images of the test split, once "
        "each, got 299 scores of images 0 to 298: run the step CandidateScores again"
    )


# Scores that are missing or of other images.


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


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", ["elbo_floor", "tolerance", "class_tolerance"])
def test_a_threshold_that_is_not_finite_is_refused(name, value):
    """An infinity would switch the threshold off."""
    thresholds = Thresholds(
        elbo_floor=-100.0, tolerance=0.5, confidence=0.95, class_tolerance=None
    )
    with pytest.raises(ValueError, match=f"^{name} must be finite, got {value}$"):
        make_eval_config(dataclasses.replace(thresholds, **{name: value}))

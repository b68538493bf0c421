"""Attacks on the gate: scores that could bless a worse model, or a broken one.

The real Evaluator decides, on scores that are made here.
"""

import dataclasses
import math

import numpy as np
import pytest
from tfx.components.util import model_utils

from components.evaluation.scores import Scores, ScoresError
from components.evaluator import list_refusals
from tests.support import evaluations

pytestmark = [pytest.mark.attacks, pytest.mark.line("decision of the gate")]

IMAGES = 200


def make_scores(elbo, **facts) -> Scores:
    """Returns scores with these ELBOs, and other facts in place of the usual ones."""
    elbo = np.asarray(elbo, np.float64)
    usual = Scores(
        images=np.arange(len(elbo)),
        labels=np.arange(len(elbo)) % 10,
        elbo=elbo,
        reconstruction=elbo + 20,
        kl=np.full(len(elbo), 20.0),
    )
    return dataclasses.replace(usual, **facts)


BASE = np.random.default_rng(0).normal(-80, 10, IMAGES)
BASELINE = make_scores(BASE)


@pytest.fixture
def decide(tmp_path):
    """Returns a function that runs the Evaluator: whether it blessed, and why not."""

    def decide(candidate, baseline=BASELINE, **thresholds):
        settings = {"elbo_floor": -100.0, "tolerance": 0.5, **thresholds}
        outputs = evaluations.evaluate(tmp_path, candidate, baseline, **settings)
        is_blessed = model_utils.is_model_blessed(outputs["blessing"])
        return is_blessed, list_refusals(outputs["evaluation"].uri)

    return decide


def _put(values: np.ndarray, where: object, value: float) -> np.ndarray:
    result = values.copy()
    result[where] = value
    return result


EVERY = slice(None)
ELBOS = {
    "one NaN": _put(BASE, 3, np.nan),
    "one infinity": _put(BASE, 3, np.inf),
    "an infinity of each sign": _put(_put(BASE, 3, np.inf), 4, -np.inf),
    "minus infinity": _put(BASE, 3, -np.inf),
    "a number that overflows in float32": _put(BASE, 3, 1e300),
    "numbers whose sum overflows": _put(BASE, slice(100), 3e38),
    "a mean above 0": BASE + 81,
    "NaN in a class of one image": _put(BASE, 199, np.nan),
    "0.6 nats worse": BASE - 0.6,
    "worse in the mean by one image": _put(BASE, 3, BASE[3] - 0.51 * IMAGES),
    "below the floor": BASE - 25,
}


@pytest.mark.parametrize("name", ELBOS)
def test_elbos_of_a_candidate(decide, name):
    is_blessed, refusals = decide(make_scores(ELBOS[name]))
    assert not is_blessed
    assert refusals


BASELINES = {
    "one NaN": _put(BASE, 3, np.nan),
    "minus infinity": _put(BASE, 3, -np.inf),
    "minus infinity alone": _put(BASE, EVERY, -np.inf),
}


@pytest.mark.parametrize("name", BASELINES)
def test_elbos_of_a_baseline(decide, name):
    """A baseline without a finite score proves no model to be better."""
    is_blessed, refusals = decide(BASELINE, make_scores(BASELINES[name]))
    assert not is_blessed
    assert refusals


def test_infinities_of_both_models_at_one_image(decide):
    both = make_scores(_put(BASE, 3, -np.inf))
    is_blessed, refusals = decide(both, both)
    assert not is_blessed
    assert refusals


ORDER = np.random.default_rng(1).permutation(IMAGES)
NUMBERS = {
    "an image missing": BASELINE.take(np.arange(IMAGES - 1)),
    "the first image missing": BASELINE.take(np.arange(1, IMAGES)),
    "an image twice": BASELINE.take(np.append(np.arange(IMAGES), 3)),
    "one image in another's place": BASELINE.take(_put(np.arange(IMAGES), 3, 4)),
    "other numbers": dataclasses.replace(BASELINE, images=np.arange(IMAGES) + 1),
    "negative numbers": dataclasses.replace(BASELINE, images=-np.arange(IMAGES)),
    "labels in another order": dataclasses.replace(BASELINE, labels=ORDER % 10),
    "no images": BASELINE.take(np.arange(0)),
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("model", ["candidate", "baseline"])
def test_scores_of_other_images(decide, name, model):
    """This is a fault of the step, and no decision."""
    pair = (
        (NUMBERS[name], BASELINE) if model == "candidate" else (BASELINE, NUMBERS[name])
    )
    with pytest.raises(ScoresError, match="run the step"):
        decide(*pair)


def test_one_image_twice_in_both_models(decide):
    """The same good image many times would hide the others."""
    rows = np.zeros(IMAGES, np.int64)
    with pytest.raises(ScoresError, match="once"):
        decide(BASELINE.take(rows), BASELINE.take(rows))


def test_images_in_another_order(decide):
    """The difference of an image is of this image, whatever the order of the files."""
    is_blessed, refusals = decide(make_scores(BASE - 0.6).take(ORDER))
    assert not is_blessed
    assert refusals == [
        "ELBO against the baseline must be at least -0.50 nats per image with 95% "
        "confidence, got at least -0.60 (mean -0.60, standard error 0.00, 200 test "
        "images)"
    ]


NOISE = np.random.default_rng(2).normal(0, 4, IMAGES)
LUCK = {
    "a mean within the tolerance, by luck": (BASE - 0.4 + NOISE - NOISE.mean(), {}),
    "a mean of 0, of ten images": (BASE[:10] + NOISE[:10] - NOISE[:10].mean(), {}),
    "one image that is better": (BASE[:1] + 5, {}),
    "a class that got worse, while the others got better": (
        np.where(np.arange(IMAGES) % 10 == 3, BASE - 3, BASE + 2),
        {"class_tolerance": 1.0},
    ),
    "a class of one image that got worse": (
        np.append(BASE[:199], BASE[199] - 3),
        {"class_tolerance": 1.0, "labels": np.append(np.arange(199) % 5, 9)},
    ),
    "all classes worse within the tolerance, beyond that of a class": (
        BASE - 0.45,
        {"class_tolerance": 0.1},
    ),
}


@pytest.mark.parametrize("name", LUCK)
def test_models_that_are_better_by_luck_or_in_the_mean(decide, name):
    elbo, options = LUCK[name]
    count = len(elbo)
    labels = options.get("labels", np.arange(count) % 10)
    thresholds = {key: value for key, value in options.items() if key != "labels"}
    is_blessed, (refusal,) = decide(
        make_scores(elbo, labels=labels),
        make_scores(BASE[:count], labels=labels),
        **thresholds,
    )
    assert not is_blessed
    assert "with 95% confidence" in refusal


@pytest.mark.parametrize("nats", [0.0, 0.01, 1.0])
def test_a_model_below_independent_pixels(decide, nats):
    """The pixels of the test are all white, of which each has the same probability."""
    of_pixels = 784 * math.log((IMAGES + 1) / (IMAGES + 2))
    elbo = np.full(IMAGES, of_pixels - nats - 1e-3)
    is_blessed, (refusal,) = decide(make_scores(elbo), None, elbo_floor="auto")
    assert not is_blessed
    assert f"must be above that of independent pixels, {of_pixels:.2f}" in refusal


LIMITS = {
    "an infinite tolerance": {"tolerance": math.inf},
    "a tolerance of NaN": {"tolerance": math.nan},
    "a floor of minus infinity": {"elbo_floor": -math.inf},
    "a floor of NaN": {"elbo_floor": math.nan},
    "an infinite tolerance of a class": {"class_tolerance": math.inf},
}


@pytest.mark.parametrize("name", LIMITS)
def test_thresholds_that_would_switch_the_gate_off(decide, name):
    """The settings refuse these numbers; the step must not bless by them either."""
    with pytest.raises(ValueError, match="must be finite"):
        decide(make_scores(BASE - 50), **LIMITS[name])


def test_a_candidate_without_scores(decide):
    with pytest.raises(ScoresError, match="the candidate must have scores"):
        decide(None)


def test_a_served_version_without_scores(tmp_path):
    served = evaluations.make_served(tmp_path / "served", exists=True)
    with pytest.raises(ScoresError, match="run both steps again"):
        evaluations.evaluate(
            *(tmp_path, BASELINE, None), served=served, elbo_floor=-100, tolerance=0.5
        )

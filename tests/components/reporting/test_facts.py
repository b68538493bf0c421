"""The facts of the report, compared with numbers computed by hand."""

import dataclasses
import json
import math

import numpy as np
import pytest

from components.evaluation.evaluation_result import (
    Difference,
    Evaluation,
    ModelResult,
)
from components.evaluation.gate_result import GateResult, Thresholds
from components.evaluation.measure import Measurements
from components.reporting import facts
from components.reporting.measurements import ScoredImages
from tests.support.report_page import make_elbo_drift, make_no_elbo_drift

BLESSED = GateResult(
    refusals=(),
    elbo=-99.5,
    baseline_elbo=-100.0,
    estimate="how it is estimated",
    pushed="/serving/vae/18",
    difference=Difference(
        images=2, mean=0.5, standard_error=0.1, lower_end=-0.13, confidence=0.95
    ),
)
REFUSED = GateResult(
    refusals=("too low", "no answer"),
    elbo=-99.5,
    baseline_elbo=None,
    estimate="an estimate",
    pushed=None,
)
THRESHOLDS = Thresholds(
    elbo_floor=-100.0, tolerance=0.5, confidence=0.95, class_tolerance=None
)
T_2 = 12.706205  # the quantile of Student's t of the 95% interval of two values


def of_model(elbo):
    return ModelResult(elbo=elbo, reconstruction=elbo + 20.0, kl=20.0, elbo_by_label={})


def scores(differences, elbo=-99.5):
    """Returns scores with ELBO differences; the labels alternate between 3 and 5."""
    count = len(differences)
    ours = np.full(count, elbo)
    return ScoredImages(
        pixels=np.zeros([count, 28, 28, 1]),
        labels=np.arange(count) % 2 * 2 + 3,
        elbo=ours,
        baseline=ours - differences,
        loc=np.zeros([count, 2]),
    )


def describe(
    elbo=-99.5,
    baseline=-100.0,
    *,
    differences=(0.4, 0.6),
    gate=BLESSED,
    thresholds=THRESHOLDS,
):
    test = scores(np.array(differences, float), elbo)
    if baseline is None:
        test = ScoredImages(test.pixels, test.labels, test.elbo, None, test.loc)
    of_baseline = None if baseline is None else of_model(baseline)
    return facts.describe_gate(
        Evaluation(
            candidate=of_model(elbo),
            baseline=of_baseline,
            independent_pixels=-206.25,
            images=1_000,
        ),
        test,
        gate=gate,
        thresholds=thresholds,
        baseline_version=None if baseline is None else 17,
        why_no_baseline="" if baseline else "nothing was served",
    )


def test_the_gates_decision_and_its_numbers():
    found = describe()
    assert (found["verdict"], found["refusals"]) == ("BLESSED", [])
    terms = {"elbo": -99.5, "reconstruction": -79.5, "kl": 20.0}
    assert found["elbo"] == terms
    of_baseline = {"elbo": -100.0, "reconstruction": -80.0, "kl": 20.0}
    assert found["baseline"] == {**of_baseline, "version": 17}
    assert (found["floor"], found["tolerance"]) == (-100.0, 0.5)
    assert (found["confidence"], found["lower_end"]) == ("95%", -0.13)
    assert found["class_tolerance"] is None
    assert (found["independent_pixels"], found["is_floor_auto"]) == (-206.25, False)
    assert found["estimate"] == "how it is estimated"


def test_a_refusal_gives_its_reasons():
    found = describe(gate=REFUSED)
    assert (found["verdict"], found["refusals"]) == (
        "REFUSED",
        ["too low", "no answer"],
    )


def test_the_difference_is_of_the_images():
    difference = describe(differences=(0.4, 0.6))["difference"]
    assert difference["mean"] == pytest.approx(0.5)
    error = T_2 * np.std([0.4, 0.6], ddof=1) / math.sqrt(2)
    assert difference["low"] == pytest.approx(0.5 - error)
    assert difference["high"] == pytest.approx(0.5 + error)


def test_of_a_single_image_the_interval_is_null_in_json():
    found = describe(differences=(0.4,))
    assert found["difference"] == {
        "mean": pytest.approx(0.4),
        "low": None,
        "high": None,
    }
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ((0.4, 0.42), "better than the baseline"),
        ((-0.4, -0.42), "worse than the baseline"),
        ((-0.4, 0.6), "not distinguishable from the baseline with these images"),
    ],
)
def test_the_difference_in_words(differences, words):
    _, sentence, _ = describe(differences=differences)["sentences"]
    assert sentence.startswith(f"It is {words}: ")


def test_what_the_gate_requires_is_in_words():
    *_, sentence = describe()["sentences"]
    required = "The gate requires, with 95% confidence, at least -0.50"
    assert sentence == f"{required}, and found at least -0.13."
    without = dataclasses.replace(BLESSED, difference=None)
    assert describe(gate=without)["sentences"][-1] == f"{required}."


@pytest.mark.parametrize(
    ("elbo", "words"),
    [
        (-99.5, "is -99.50 nats, 0.50 above the floor."),
        (-100.0, "is -100.00 nats, 0.00 above the floor."),
        (-102.25, "is -102.25 nats, 2.25 below the floor."),
    ],
)
def test_the_elbo_is_compared_with_the_floor(elbo, words):
    sentence, *_ = describe(elbo=elbo)["sentences"]
    assert sentence == f"The candidate's mean ELBO over 1,000 test images {words}"


@pytest.mark.parametrize(
    ("elbo", "words"), [(-200.0, "6.25 above"), (-210.5, "4.25 below")]
)
def test_a_floor_without_a_number_is_that_of_independent_pixels(elbo, words):
    auto = dataclasses.replace(THRESHOLDS, elbo_floor="auto")
    found = describe(elbo=elbo, thresholds=auto)
    assert (found["floor"], found["is_floor_auto"]) == (-206.25, True)
    assert found["sentences"][0] == (
        f"The candidate's mean ELBO over 1,000 test images is {elbo:.2f} nats, {words} "
        "the log-likelihood of independent pixels, which is the floor."
    )


def test_without_a_baseline_the_reason_is_given():
    found = describe(baseline=None)
    assert (found["baseline"], found["difference"]) == (None, None)
    assert found["why_no_baseline"] == "nothing was served"
    assert found["sentences"][1] == (
        "There is no baseline to compare with: nothing was served."
    )


@pytest.mark.parametrize("elbo", [math.nan, math.inf])
def test_an_elbo_that_is_no_number_has_one_sentence_and_is_null(elbo):
    found = describe(elbo=elbo, baseline=None)
    assert found["sentences"] == ["The candidate's mean ELBO is not a finite number."]
    assert found["elbo"]["elbo"] is None
    json.dumps(found, allow_nan=False)


def test_each_digit_has_its_own_numbers():
    digits = describe(differences=(0.4, -0.69, 0.4, -0.71))["digits"]
    assert [(digit["label"], digit["images"]) for digit in digits] == [(3, 2), (5, 2)]
    assert [digit["worse"] for digit in digits] == [False, True]
    assert digits[1]["difference"]["mean"] == pytest.approx(-0.7)
    assert digits[1]["baseline"] == pytest.approx(-98.8)


def test_bounds_are_the_iwae_and_the_latents():
    measured = Measurements(1000, -90.0, -70.0, 20.0, -88.5, 64, 7, 16)
    assert facts.describe_bounds(measured) == {
        "iwae": -88.5,
        "k": 64,
        "active": "7 of 16",
    }
    assert facts.describe_bounds(measured._replace(iwae=math.nan))["iwae"] is None


def test_training_is_the_best_epoch_and_the_mean_speed():
    curves = {
        ("train", "images_per_second"): [(1, 2000.0), (2, 3000.0), (3, 4000.0)],
        ("eval", "elbo"): [(1, -120.0), (2, -110.5), (3, -111.0)],
    }
    assert facts.describe_training(curves) == (
        "3 epochs at 3,000 images/s; the best ELBO on the eval split, -110.50 nats per "
        "image, came after epoch 2."
    )


@pytest.mark.parametrize("lost", [("train", "images_per_second"), ("eval", "elbo")])
def test_without_curves_training_has_no_sentence(lost):
    curves = {
        ("train", "images_per_second"): [(1, 2000.0)],
        ("eval", "elbo"): [(1, -120.0)],
    }
    del curves[lost]
    assert facts.describe_training(curves) == ""


def test_data_are_counted_by_split_and_label():
    counts = {"train": {5: 1, 3: 9}, "test": {7: 5}}
    assert facts.describe_data(counts, ["odd"], drift={"a": 1}) == {
        "labels": [3, 5, 7],
        "splits": [
            {"name": "train", "images": 10, "by_label": [9, 1, 0]},
            {"name": "test", "images": 5, "by_label": [0, 0, 5]},
        ],
        "anomalies": ["odd"],
        "drift": {"a": 1},
    }


def test_lineage_is_where_the_model_comes_from_and_went():
    config = {"push": {"model_name": "vae"}, "data": {"dataset": "mnist"}}
    assert facts.describe_lineage(
        {"run_key": "5eed", "config": config},
        "f1a9",
        stack={"python": "3.10.13"},
        pushed="/serving/vae/18",
        manifest="{}",
    ) == {
        "model_name": "vae",
        "dataset": "mnist",
        "run_key": "5eed",
        "config": "push:\n  model_name: vae\ndata:\n  dataset: mnist\n",
        "data_fingerprint": "f1a9",
        "stack": {"python": "3.10.13"},
        "pushed": "/serving/vae/18",
        "manifest": "{}",
    }


def test_scalars_are_finite_numbers():
    given = {
        **describe(differences=(0.4, 0.6)),
        "bounds": {"iwae": None},
        "elbo_drift": {"fall": -0.5, "standard_errors": -0.25},
        "pushed": "/serving/vae/18",
    }
    assert facts.list_scalars(given) == {
        "elbo": -99.5,
        "reconstruction": -79.5,
        "kl": 20.0,
        "independent_pixels": -206.25,
        "elbo_floor": -100.0,
        "baseline_elbo": -100.0,
        "difference": pytest.approx(0.5),
        "difference_low": pytest.approx(0.5 - 0.1 * T_2),
        "difference_lower_end": -0.13,
        "difference_high": pytest.approx(0.5 + 0.1 * T_2),
        "elbo_fall": -0.5,
        "elbo_fall_standard_errors": -0.25,
        "blessed": 1.0,
        "pushed": 1.0,
    }
    refused = {**given, **describe(baseline=None, gate=REFUSED), "pushed": ""}
    refused["elbo_drift"] = facts.describe_elbo_drift(make_no_elbo_drift())
    found = facts.list_scalars(refused)
    assert (found["blessed"], found["pushed"]) == (0.0, 0.0)
    assert "baseline_elbo" not in found
    assert "elbo_fall" not in found


def test_the_fall_of_the_served_models_elbo_is_in_both_units():
    assert facts.describe_elbo_drift(make_elbo_drift()) == {
        "version": 17,
        "unchecked": "",
        "before": {"elbo": -100.0, "standard_error": 3.0, "images": 10_000},
        "now": {"elbo": -103.0, "standard_error": 4.0, "images": 1_000},
        "fall": 3.0,
        "standard_errors": 0.6,
        "words": "a fall of 3.00 nats, 0.6 standard errors",
        "threshold": 8.0,
        "accepted": False,
    }
    found = facts.describe_elbo_drift(make_elbo_drift(-141.0, accept_drift=True))
    assert (found["standard_errors"], found["accepted"]) == (8.2, True)


def test_a_fall_that_is_not_finite_is_valid_json():
    report = make_elbo_drift(math.nan, math.nan, accept_drift=True)
    found = json.loads(json.dumps(facts.describe_elbo_drift(report), allow_nan=False))
    assert (found["fall"], found["standard_errors"]) == (None, None)
    assert found["now"] == {"elbo": None, "standard_error": None, "images": 1_000}
    assert found["accepted"] is True


def test_a_fall_that_was_not_measured_has_a_reason():
    found = facts.describe_elbo_drift(make_no_elbo_drift())
    assert found["unchecked"] == "nothing was served"
    assert {found[key] for key in ("version", "before", "now", "fall", "words")} == {
        None
    }

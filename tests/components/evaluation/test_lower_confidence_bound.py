"""TFMA's metric of the lower end, against SciPy's paired test.

tests/components/test_evaluator.py has the whole of TFMA run it.
"""

import math
import pickle

import numpy as np
import pytest
import scipy.stats
from tensorflow_model_analysis.metrics import metric_types

from components.evaluation.lower_confidence_bound import LowerConfidenceBound

# From the proto module: newer versions of TFMA do not export all of it at their top.
from tensorflow_model_analysis.proto import config_pb2  # isort: skip

SPECS = [config_pb2.ModelSpec(name=name) for name in ("candidate", "baseline")]


def make_inputs(prediction):
    """Returns what TFMA gives a metric of one example with this prediction."""
    predictions = {"candidate": {"difference": prediction}}
    return metric_types.StandardMetricInputs(
        {"labels": np.array([3]), "predictions": predictions}
    )


def combine(values, *, confidence=0.95, parts=4):
    """Returns the metric's values by name, combined as Beam combines parts."""
    (computation,) = LowerConfidenceBound(confidence=confidence).computations(
        eval_config=config_pb2.EvalConfig(model_specs=SPECS),
        model_names=["candidate"],
        output_names=["difference"],
        example_weighted=None,
    )
    # Beam's workers unpickle the combiner.
    combiner = pickle.loads(pickle.dumps(computation.combiner))
    accumulators = [combiner.create_accumulator() for _ in range(parts)]
    for number, value in enumerate(values):
        part = number % parts
        inputs = make_inputs(np.array([value], np.float32))
        accumulators[part] = combiner.add_input(accumulators[part], inputs)
    merged = combiner.merge_accumulators(accumulators)
    output = combiner.extract_output(combiner.compact(merged))
    assert set(output) == set(computation.keys)
    return {key.name: value for key, value in output.items()}


@pytest.mark.parametrize("parts", [1, 7])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_lower_end_is_scipys_of_a_paired_test(confidence, parts):
    rng = np.random.default_rng(0)
    baseline = rng.normal(-90, 25, 300)
    differences = rng.normal(-0.3, 2.0, 300).astype(np.float32).astype(np.float64)
    candidate = baseline + differences
    expected = scipy.stats.ttest_rel(candidate, baseline, alternative="greater")
    assert combine(differences, confidence=confidence, parts=parts) == {
        "lower_confidence_bound": pytest.approx(
            expected.confidence_interval(confidence).low, rel=1e-9
        ),
        "mean": pytest.approx(np.mean(differences)),
        "standard_error": pytest.approx(scipy.stats.sem(differences)),
        "images": 300.0,
    }


def test_of_equal_differences_the_lower_end_is_the_mean_exactly():
    found = combine(np.full(100, -0.5))
    assert found["lower_confidence_bound"] == found["mean"] == -0.5
    assert found["standard_error"] == 0.0


def test_of_one_image_the_lower_end_is_minus_infinity():
    assert combine([0.25]) == {
        "lower_confidence_bound": -math.inf,
        "mean": 0.25,
        "standard_error": math.inf,
        "images": 1.0,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_difference_that_is_not_finite_passes_no_threshold(value):
    assert not combine([*np.linspace(0, 1, 20), value])["lower_confidence_bound"] >= -9


@pytest.mark.parametrize(
    ("prediction", "got"), [(None, r"array\(\[\]"), (np.zeros(2), r"array\(\[0")]
)
def test_an_example_without_one_prediction_is_an_error(prediction, got):
    """MeanPrediction's 0.0 for examples that it cannot read would bless any model."""
    (computation,) = LowerConfidenceBound(confidence=0.95).computations(
        eval_config=config_pb2.EvalConfig(model_specs=SPECS),
        model_names=["candidate"],
        output_names=["difference"],
    )
    inputs = make_inputs(prediction)
    with pytest.raises(ValueError, match=f"must get one prediction of each .*{got}"):
        computation.combiner.add_input(
            computation.combiner.create_accumulator(), inputs
        )


def test_there_is_a_computation_for_each_model_and_output():
    computations = LowerConfidenceBound(confidence=0.95, name="end").computations(
        model_names=["a", "b"], output_names=["x", "y"]
    )
    keys = [computation.keys[0] for computation in computations]
    assert [(key.name, key.model_name, key.output_name) for key in keys] == [
        *(("end", "a", "x"), ("end", "a", "y")),
        *(("end", "b", "x"), ("end", "b", "y")),
    ]

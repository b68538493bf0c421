"""The Evaluator step: a gate on the ELBO, with TFMA on the scores of both models."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tfx.components.evaluator import executor as tfx_executor
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import (
    Artifact,
    BaseChannel,
    Channel,
    artifact_utils,
    component_spec,
    standard_artifacts,
    system_executions,
)
from tfx.types import standard_component_specs as specs
from tfx.utils import json_utils, proto_utils

from components import served_model
from components.evaluation import (
    independent_pixels,
    lower_confidence_bound,
    predictions,
)
from components.evaluation.estimate import SPLIT
from components.evaluation.evaluation_result import (
    Difference,
    Evaluation,
    ModelResult,
    format_confidence,
)
from components.evaluation.gate_result import Thresholds
from components.evaluation.lower_confidence_bound import LowerConfidenceBound
from components.evaluation.predictions import (
    ABOVE_INDEPENDENT_PIXELS,
    BASELINE,
    CANDIDATE,
    DIFFERENCE,
    INDEPENDENT_PIXELS,
)
from components.evaluation.scores import ScoresError
from components.model_scores import (
    describe_as_test_split,
    read_scores,
    require_scores,
)
from model.training.progress import log_if_slow

# From the proto module: newer versions of TFMA do not export all of it at their top.
from tensorflow_model_analysis.proto import config_pb2  # isort: skip

CANDIDATE_SCORES_KEY, BASELINE_SCORES_KEY = "candidate_scores", "baseline_scores"
FEATURE_KEY = "feature"

_METRIC = "mean_prediction"
_WHOLE = config_pb2.SlicingSpec()
_BY_LABEL = config_pb2.SlicingSpec(feature_keys=[predictions.LABEL])
# TFMA's type of a model whose predictions are features. TFMA does not load the model.
_MODEL_TYPE = "materialized_prediction"
_PREDICTIONS = "predictions"  # a folder in the output folder, while the step runs


class Executor(tfx_executor.Executor):
    """TFX's executor, which gets predictions of scores in place of images."""

    def Do(self, input_dict, output_dict, exec_properties):  # noqa: N802
        (candidate_scores,) = input_dict[CANDIDATE_SCORES_KEY]
        (baseline_scores,) = input_dict[BASELINE_SCORES_KEY]
        (served,) = input_dict[specs.BASELINE_MODEL_KEY]
        (transformed,) = input_dict[specs.EXAMPLES_KEY]
        (evaluation,) = output_dict[specs.EVALUATION_KEY]
        candidate = require_scores(candidate_scores)
        baseline = read_scores(baseline_scores)
        if (baseline is None) != served_model.has_no_version(served):
            found = "a model and BaselineScores found none"
            if baseline is not None:
                found = "no model and BaselineScores found one"
            raise ScoresError(f"ServedModel found {found}: run both steps again")
        config = config_pb2.EvalConfig()
        proto_utils.json_to_proto(exec_properties[specs.EVAL_CONFIG_KEY], config)
        models = {specs.MODEL_KEY: input_dict[specs.MODEL_KEY]}
        if baseline is None:
            _remove_difference(config)
        else:
            models[specs.BASELINE_MODEL_KEY] = [served]
        with log_if_slow("fitting and measuring independent pixels"):
            pixels = _measure_independent_pixels(
                transformed, exec_properties[FEATURE_KEY]
            )
        folder = os.path.join(evaluation.uri, _PREDICTIONS)
        try:
            predictions.write_predictions(
                folder, candidate, baseline=baseline, independent_pixels=pixels
            )
            examples = standard_artifacts.Examples()
            examples.uri = folder  # Beam's workers must be able to read it
            describe_as_test_split(examples)
            with log_if_slow("evaluating the scores, for the gate"):
                super().Do(
                    {specs.EXAMPLES_KEY: [examples], **models},
                    output_dict,
                    {
                        specs.EVAL_CONFIG_KEY: proto_utils.proto_to_json(config),
                        specs.EXAMPLE_SPLITS_KEY: json_utils.dumps([SPLIT]),
                    },
                )
        finally:
            if tf.io.gfile.exists(folder):
                tf.io.gfile.rmtree(folder)


def _remove_difference(config: config_pb2.EvalConfig) -> None:
    """Removes the ratchet from TFMA's configuration, for a run without a baseline.

    TFX's executor removes the baseline itself.
    """
    kept = [
        spec for spec in config.metrics_specs if DIFFERENCE not in spec.output_names
    ]
    del config.metrics_specs[:]
    config.metrics_specs.extend(kept)
    for spec in config.model_specs:
        spec.prediction_keys.pop(DIFFERENCE, None)


def _measure_independent_pixels(examples: Artifact, feature: str) -> np.ndarray:
    """Returns each test image's log-likelihood under independent pixels.

    Args:
      examples: Transform's examples; the distributions are fitted on the train split.
      feature: the feature that the model is trained on, `bits` or `pixels`.

    Returns:
      float64 [N], nats, in the order of the test split's files.
    """
    train, test = (
        [os.path.join(artifact_utils.get_split_uri([examples], split), "*")]
        for split in (independent_pixels.TRAIN, SPLIT)
    )
    fitted = independent_pixels.fit(train, feature)
    return independent_pixels.measure(fitted, test, feature=feature)


class EvaluatorSpec(component_spec.ComponentSpec):
    """The inputs, outputs and parameters of the Evaluator."""

    PARAMETERS: ClassVar[dict[str, component_spec.ExecutionParameter]] = {
        specs.EVAL_CONFIG_KEY: component_spec.ExecutionParameter(
            type=config_pb2.EvalConfig
        ),
        FEATURE_KEY: component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, component_spec.ChannelParameter]] = {
        CANDIDATE_SCORES_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.Examples
        ),
        BASELINE_SCORES_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.Examples
        ),
        specs.EXAMPLES_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.Examples
        ),
        specs.MODEL_KEY: component_spec.ChannelParameter(type=standard_artifacts.Model),
        specs.BASELINE_MODEL_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.Model
        ),
    }
    OUTPUTS: ClassVar[dict[str, component_spec.ChannelParameter]] = {
        specs.EVALUATION_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ModelEvaluation
        ),
        specs.BLESSING_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing
        ),
    }
    TYPE_ANNOTATION = system_executions.Evaluate


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluatorInputs:
    """The outputs of other steps that the Evaluator reads."""

    candidate_scores: BaseChannel  # CandidateScores'
    baseline_scores: BaseChannel  # BaselineScores'; empty without a baseline
    examples: BaseChannel  # Transform's, from which independent pixels are fitted
    model: BaseChannel  # the candidate, which the blessing names; it is not loaded
    baseline_model: BaseChannel  # ServedModel's; it is not loaded


class Evaluator(base_beam_component.BaseBeamComponent):
    """Compares the scores of both models, and blesses or refuses the candidate."""

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        inputs: EvaluatorInputs,
        eval_config: config_pb2.EvalConfig,
        *,
        feature: str,
    ):
        """Makes the step.

        Args:
          inputs: the outputs of other steps.
          eval_config: TFMA's configuration, with the thresholds.
          feature: the feature that the model is trained on: `bits` for a likelihood of
            binary pixels, else `pixels`.
        """
        spec = EvaluatorSpec(
            **vars(inputs),
            eval_config=eval_config,
            feature=feature,
            evaluation=Channel(type=standard_artifacts.ModelEvaluation),
            blessing=Channel(type=standard_artifacts.ModelBlessing),
        )
        super().__init__(spec=spec)


def make_eval_config(
    thresholds: Thresholds, *, binary: bool = True
) -> config_pb2.EvalConfig:
    """Returns TFMA's configuration: the metrics, and the thresholds of the gate.

    The gate has two thresholds over the whole test split. The floor: the candidate's
    mean ELBO is at least `elbo_floor` or, if it is auto, above the log-likelihood of
    independent pixels. The ratchet, if there is a baseline: the mean of the images'
    differences, candidate minus baseline, is with `confidence` at least -`tolerance`.
    The slices by label are reported. They have a threshold if there is a
    `class_tolerance`: it is the ratchet's, with this tolerance.

    Args:
      thresholds: what the gate requires.
      binary: whether p(x|z) is a distribution of binary pixels.
    """
    for name, value in dataclasses.asdict(thresholds).items():
        # An infinity would switch the threshold off.
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
    # The log of a probability is at most 0, so an ELBO above 0 shows a broken model.
    # The log of a density, for grey pixels, may be any finite number.
    bounds = {"upper_bound": {"value": 0.0 if binary else sys.float_info.max}}
    above = None
    if thresholds.elbo_floor == "auto":
        above = config_pb2.GenericValueThreshold(lower_bound={"value": 0.0})
    else:
        bounds["lower_bound"] = {"value": thresholds.elbo_floor}
    floor = config_pb2.GenericValueThreshold(**bounds)
    of_candidate = {
        INDEPENDENT_PIXELS: _make_mean(),
        ABOVE_INDEPENDENT_PIXELS: _make_mean(above),
        DIFFERENCE: _make_ratchet(thresholds),
    }
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                name=name,
                is_baseline=name == BASELINE,
                model_type=_MODEL_TYPE,
                # Without a label, MeanPrediction returns 0.0 and blesses anything.
                label_key=predictions.LABEL,
                prediction_keys={
                    **predictions.name_features(name),
                    **{each: each for each in of_candidate if name == CANDIDATE},
                },
            )
            for name in (CANDIDATE, BASELINE)
        ],
        slicing_specs=[_WHOLE, _BY_LABEL],
        metrics_specs=[
            config_pb2.MetricsSpec(output_names=["elbo"], metrics=[_make_mean(floor)]),
            config_pb2.MetricsSpec(
                output_names=["reconstruction", "kl"], metrics=[_make_mean()]
            ),
            *(
                config_pb2.MetricsSpec(
                    output_names=[output], metrics=[metric], model_names=[CANDIDATE]
                )
                for output, metric in of_candidate.items()
            ),
            config_pb2.MetricsSpec(
                metrics=[config_pb2.MetricConfig(class_name="ExampleCount")]
            ),
        ],
    )


def _make_mean(
    threshold: config_pb2.GenericValueThreshold | None = None,
) -> config_pb2.MetricConfig:
    """Returns the metric of a mean over images.

    Args:
      threshold: the gate's threshold for the whole test split; None: there is none.
    """
    mean = config_pb2.MetricConfig(class_name="MeanPrediction")
    if threshold is not None:
        # The field `threshold` would apply to every slice.
        mean.per_slice_thresholds.add(
            slicing_specs=[_WHOLE],
            threshold=config_pb2.MetricThreshold(value_threshold=threshold),
        )
    return mean


def _make_ratchet(thresholds: Thresholds) -> config_pb2.MetricConfig:
    """Returns the metric of the difference to the baseline, with its thresholds.

    The difference is a prediction of its own. TFMA's change_threshold would need a
    baseline that TFMA loads, and would compare means as if they had no noise.
    """
    ratchet = config_pb2.MetricConfig(
        class_name=LowerConfidenceBound.__name__,
        module=LowerConfidenceBound.__module__,
        config=json.dumps({"confidence": thresholds.confidence}),
    )
    for slices, tolerance in (
        (_WHOLE, thresholds.tolerance),
        (_BY_LABEL, thresholds.class_tolerance),
    ):
        if tolerance is not None:
            ratchet.per_slice_thresholds.add(
                slicing_specs=[slices],
                threshold={"value_threshold": {"lower_bound": {"value": -tolerance}}},
            )
    return ratchet


def read_evaluation(uri: str) -> Evaluation:
    """Reads the mean ELBOs that the Evaluator measured from its output folder."""
    # Without a baseline, TFMA's name for the candidate is empty.
    result = tfma.load_eval_result(uri)
    names = {spec.name for spec in result.config.model_specs}
    if BASELINE not in names:
        return Evaluation(
            candidate=_read_model(result),
            baseline=None,
            independent_pixels=_read_independent_pixels(result),
            images=_read_count(result),
        )
    candidate = tfma.load_eval_result(uri, model_name=CANDIDATE)
    baseline = tfma.load_eval_result(uri, model_name=BASELINE)
    return Evaluation(
        candidate=_read_model(candidate),
        baseline=_read_model(baseline),
        independent_pixels=_read_independent_pixels(candidate),
        images=_read_count(candidate),
        difference=_read_differences(candidate)[None],
    )


def list_refusals(uri: str) -> list[str]:
    """Returns a sentence for each threshold that the candidate missed.

    Args:
      uri: the Evaluator's output folder.
    """
    validation = tfma.load_validation_result(uri)
    sentences = []
    missed: dict[int | None, float] = {}  # label, None: all images -> the least
    for of_slice in validation.metric_validations_per_slice:
        for failure in of_slice.failures:
            if failure.metric_key.output_name != DIFFERENCE or failure.message.strip():
                sentences.append(_describe_failure(failure, uri))
            else:
                least = failure.metric_threshold.value_threshold.lower_bound.value
                missed[_read_label(of_slice.slice_key)] = least
    if missed:
        candidate = tfma.load_eval_result(uri, model_name=CANDIDATE)
        sentences += _describe_missed_ratchet(_read_differences(candidate), missed)
    if not validation.validation_ok and not sentences:
        sentences.append("the evaluation has none of the slices that the gate requires")
    return sentences


def _describe_failure(failure, uri: str) -> str:
    """Returns a sentence about the floor that the candidate missed.

    Args:
      failure: TFMA's ValidationFailure.
      uri: the Evaluator's output folder.
    """
    if failure.message.strip():
        return failure.message.strip()
    value = failure.metric_value.double_value.value
    threshold = failure.metric_threshold.value_threshold
    if failure.metric_key.output_name == ABOVE_INDEPENDENT_PIXELS:
        found = read_evaluation(uri)
        return (
            f"ELBO {found.candidate.elbo:.2f} must be above that of independent "
            f"pixels, {found.independent_pixels:.2f} nats per image"
        )
    if value > threshold.upper_bound.value > 0 or (
        math.isnan(value) and not threshold.HasField("lower_bound")
    ):
        return f"ELBO {value:.2f} must be a finite number"
    if value > threshold.upper_bound.value:
        return f"ELBO {value:.2f} must not be above 0 nats per image"
    least = threshold.lower_bound.value
    return f"ELBO {value:.2f} must be at least the floor, {least:.2f} nats per image"


def _describe_missed_ratchet(
    differences: Mapping[int | None, Difference], missed: Mapping[int | None, float]
) -> list[str]:
    """Returns a sentence about the whole test split, and one about the labels.

    Args:
      differences: the differences to the baseline by label; None: of all images.
      missed: the least difference that is blessed, by label, where the gate refuses.
    """
    sentences = []
    labels = sorted(label for label in missed if label is not None)
    for refused in ([None] if None in missed else [], labels):
        if not refused:
            continue
        least = missed[refused[0]]
        confidence = format_confidence(differences[None].confidence)
        got = ", ".join(
            f"{'' if label is None else f'for label {label} '}"
            f"{_describe_lower_end(differences[label], least)}"
            for label in refused
        )
        sentence = (
            f"ELBO against the baseline must be at least {least:+.2f} nats per image "
            f"with {confidence} confidence, got {got}"
        )
        if any(differences[label].mean >= least for label in refused):
            sentence += ": more test images would narrow the interval"
        sentences.append(sentence)
    return sentences


def _describe_lower_end(difference: Difference, least: float) -> str:
    """Returns a text with the lower end of a difference that the gate refuses.

    Args:
      difference: the difference to the baseline.
      least: the least difference that is blessed.
    """
    mean, end = difference.mean, difference.lower_end
    if difference.images < 2 or not math.isfinite(mean):
        images = "image" if difference.images == 1 else "images"
        return f"{mean:+.2f} and no interval from {difference.images:,} test {images}"
    digits = 2
    # As many as tell the lower end from the threshold.
    while digits < 6 and f"{end:.{digits}f}" == f"{least:.{digits}f}":
        digits += 1
    return (
        f"at least {end:+.{digits}f} (mean {mean:+.2f}, standard error "
        f"{difference.standard_error:.2f}, {difference.images:,} test images)"
    )


def _read_model(result) -> ModelResult:
    by_slice = dict(result.slicing_metrics)
    whole = by_slice[()]
    return ModelResult(
        elbo=_read_mean(whole, "elbo"),
        reconstruction=_read_mean(whole, "reconstruction"),
        kl=_read_mean(whole, "kl"),
        elbo_by_label={
            int(key[0][1]): _read_mean(metrics, "elbo")
            for key, metrics in sorted(by_slice.items())
            if key
        },
    )


def _read_differences(candidate) -> dict[int | None, Difference]:
    """Returns the differences to the baseline by label; None: of all images."""
    (ratchet,) = (
        metric
        for spec in candidate.config.metrics_specs
        for metric in spec.metrics
        if DIFFERENCE in spec.output_names
    )
    confidence = json.loads(ratchet.config)["confidence"]
    differences = {}
    for key, metrics in candidate.slicing_metrics:
        values = {
            name: _read_value(metrics, DIFFERENCE, metric=name)
            for name in lower_confidence_bound.VALUES
        }
        differences[int(key[0][1]) if key else None] = Difference(
            images=int(values[lower_confidence_bound.IMAGES]),
            mean=values[lower_confidence_bound.MEAN],
            standard_error=values[lower_confidence_bound.STANDARD_ERROR],
            lower_end=values[lower_confidence_bound.LOWER_END],
            confidence=confidence,
        )
    return differences


def _read_label(slice_key) -> int | None:
    """Returns the label of a slice in TFMA's validation; None: it has all images."""
    keys = slice_key.single_slice_keys
    return keys[0].int64_value if keys else None


def _read_mean(metrics, output: str) -> float:
    return _read_value(metrics, output, metric=_METRIC)


def _read_value(metrics, output: str, *, metric: str) -> float:
    value = metrics[output][""][metric].get("doubleValue", math.nan)
    return float(value)  # TFMA gives NaN and infinity as strings


def _read_independent_pixels(result) -> float:
    return _read_mean(dict(result.slicing_metrics)[()], INDEPENDENT_PIXELS)


def _read_count(result) -> int:
    whole = dict(result.slicing_metrics)[()]
    return int(whole[""][""]["example_count"]["doubleValue"])

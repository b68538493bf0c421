"""The Evaluator step: a gate on the ELBO, with TFMA on the scores of both models."""

import math
import os
import sys
from typing import ClassVar

import tensorflow as tf
import tensorflow_model_analysis as tfma
from tfx.components.evaluator import executor as tfx_executor
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.proto import example_gen_pb2
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
from components.evaluation import predictions
from components.evaluation.estimate import SPLIT
from components.evaluation.evaluation_result import Evaluation, ModelResult
from components.evaluation.predictions import BASELINE, CANDIDATE, DIFFERENCE
from components.evaluation.scores import Scores, ScoresError
from components.model_scores import read_scores, require_scores
from model.training.progress import log_if_slow

# From the proto module: newer versions of TFMA do not export all of it at their top.
from tensorflow_model_analysis.proto import config_pb2  # isort: skip

CANDIDATE_SCORES_KEY, BASELINE_SCORES_KEY = "candidate_scores", "baseline_scores"

_METRIC = "mean_prediction"
# TFMA's type of a model whose predictions are features. TFMA does not load the model.
_MODEL_TYPE = "materialized_prediction"
_PREDICTIONS = "predictions"  # a folder in the output folder, while the step runs


class Executor(tfx_executor.Executor):
    """TFX's executor, which gets the scores of both models in place of examples."""

    def Do(self, input_dict, output_dict, exec_properties):  # noqa: N802
        (candidate_scores,) = input_dict[CANDIDATE_SCORES_KEY]
        (baseline_scores,) = input_dict[BASELINE_SCORES_KEY]
        (served,) = input_dict[specs.BASELINE_MODEL_KEY]
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
        folder = os.path.join(evaluation.uri, _PREDICTIONS)
        try:
            examples = _write_examples(folder, candidate, baseline=baseline)
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


def _write_examples(
    folder: str, candidate: Scores, *, baseline: Scores | None
) -> Artifact:
    """Writes the predictions for TFMA; returns them as an artifact.

    Args:
      folder: the new folder to write to; Beam's workers must be able to read it.
      candidate: the candidate's scores.
      baseline: the baseline's scores; None: there is no baseline.
    """
    predictions.write_predictions(folder, candidate, baseline=baseline)
    examples = standard_artifacts.Examples()
    examples.uri = folder
    examples.split_names = artifact_utils.encode_split_names([SPLIT])
    examples_utils.set_payload_format(
        examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
    )
    return examples


class EvaluatorSpec(component_spec.ComponentSpec):
    """The inputs, outputs and parameters of the Evaluator."""

    PARAMETERS: ClassVar[dict[str, component_spec.ExecutionParameter]] = {
        specs.EVAL_CONFIG_KEY: component_spec.ExecutionParameter(
            type=config_pb2.EvalConfig
        )
    }
    INPUTS: ClassVar[dict[str, component_spec.ChannelParameter]] = {
        CANDIDATE_SCORES_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.Examples
        ),
        BASELINE_SCORES_KEY: component_spec.ChannelParameter(
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


class Evaluator(base_beam_component.BaseBeamComponent):
    """Compares the scores of both models, and blesses or refuses the candidate."""

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        candidate_scores: BaseChannel,
        baseline_scores: BaseChannel,
        *,
        model: BaseChannel,
        baseline_model: BaseChannel,
        eval_config: config_pb2.EvalConfig,
    ):
        """Makes the step.

        Args:
          candidate_scores: CandidateScores' output.
          baseline_scores: BaselineScores' output, empty without a baseline.
          model: the candidate, which the blessing names; it is not loaded.
          baseline_model: ServedModel's output; it is not loaded.
          eval_config: TFMA's configuration, with the thresholds.
        """
        spec = EvaluatorSpec(
            candidate_scores=candidate_scores,
            baseline_scores=baseline_scores,
            model=model,
            baseline_model=baseline_model,
            eval_config=eval_config,
            evaluation=Channel(type=standard_artifacts.ModelEvaluation),
            blessing=Channel(type=standard_artifacts.ModelBlessing),
        )
        super().__init__(spec=spec)


def make_eval_config(
    elbo_floor: float, tolerance: float, *, binary: bool = True
) -> config_pb2.EvalConfig:
    """Returns TFMA's configuration: the metrics, and the thresholds of the gate.

    The gate has two thresholds over the whole test split. The floor: the candidate's
    mean ELBO is at least `elbo_floor`. The ratchet, if there is a baseline: the mean of
    the images' differences, candidate minus baseline, is at least -`tolerance`. The
    slices by label are reported and have no threshold.

    Args:
      elbo_floor: nats per image.
      tolerance: nats per image.
      binary: whether p(x|z) is a distribution of binary pixels.
    """
    # The log of a probability is at most 0, so an ELBO above 0 shows a broken model.
    # The log of a density, for grey pixels, may be any finite number.
    floor = config_pb2.GenericValueThreshold(
        lower_bound={"value": elbo_floor},
        upper_bound={"value": 0.0 if binary else sys.float_info.max},
    )
    # The difference is a prediction of its own. TFMA's change_threshold would need a
    # baseline that TFMA loads.
    ratchet = config_pb2.GenericValueThreshold(lower_bound={"value": -tolerance})
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
                    **({DIFFERENCE: DIFFERENCE} if name == CANDIDATE else {}),
                },
            )
            for name in (CANDIDATE, BASELINE)
        ],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            config_pb2.SlicingSpec(feature_keys=[predictions.LABEL]),
        ],
        metrics_specs=[
            config_pb2.MetricsSpec(output_names=["elbo"], metrics=[_make_mean(floor)]),
            config_pb2.MetricsSpec(
                output_names=["reconstruction", "kl"], metrics=[_make_mean()]
            ),
            config_pb2.MetricsSpec(
                output_names=[DIFFERENCE],
                metrics=[_make_mean(ratchet)],
                model_names=[CANDIDATE],
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
            slicing_specs=[config_pb2.SlicingSpec()],
            threshold=config_pb2.MetricThreshold(value_threshold=threshold),
        )
    return mean


def read_evaluation(uri: str) -> Evaluation:
    """Reads the mean ELBOs that the Evaluator measured from its output folder."""
    # Without a baseline, TFMA's name for the candidate is empty.
    result = tfma.load_eval_result(uri)
    names = {spec.name for spec in result.config.model_specs}
    if BASELINE not in names:
        return Evaluation(
            candidate=_read_model(result), baseline=None, images=_read_count(result)
        )
    candidate = tfma.load_eval_result(uri, model_name=CANDIDATE)
    baseline = tfma.load_eval_result(uri, model_name=BASELINE)
    return Evaluation(
        candidate=_read_model(candidate),
        baseline=_read_model(baseline),
        images=_read_count(candidate),
    )


def list_refusals(uri: str) -> list[str]:
    """Returns a sentence for each threshold that the candidate missed.

    Args:
      uri: the Evaluator's output folder.
    """
    validation = tfma.load_validation_result(uri)
    failures = [
        failure
        for of_slice in validation.metric_validations_per_slice
        for failure in of_slice.failures
    ]
    # The floor comes before the ratchet.
    failures.sort(key=lambda failure: failure.metric_key.output_name == DIFFERENCE)
    sentences = [_describe_failure(failure) for failure in failures]
    if not validation.validation_ok and not sentences:
        sentences.append("the evaluation has none of the slices that the gate requires")
    return sentences


def _describe_failure(failure) -> str:
    """Returns a sentence about one threshold that the candidate missed."""
    if failure.message.strip():
        return failure.message.strip()
    value = failure.metric_value.double_value.value
    threshold = failure.metric_threshold.value_threshold
    least = threshold.lower_bound.value
    if failure.metric_key.output_name == DIFFERENCE:
        what = f"ELBO {value:+.2f} against the baseline must be at least {least:+.2f}"
    elif value > threshold.upper_bound.value > 0:
        return f"ELBO {value:.2f} must be a finite number"
    elif value > threshold.upper_bound.value:
        what = f"ELBO {value:.2f} must not be above 0"
    else:
        what = f"ELBO {value:.2f} must be at least the floor, {least:.2f}"
    return f"{what} nats per image"


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


def _read_mean(metrics, output: str) -> float:
    value = metrics[output][""][_METRIC].get("doubleValue", math.nan)
    return float(value)  # TFMA gives NaN and infinity as strings


def _read_count(result) -> int:
    whole = dict(result.slicing_metrics)[()]
    return int(whole[""][""]["example_count"]["doubleValue"])

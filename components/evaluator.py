"""The Evaluator step: TFX's Evaluator with a gate on the ELBO, baseline or not."""

import copy
import math
import os

import tensorflow as tf
import tensorflow_model_analysis as tfma
from tfx.components import Evaluator as TfxEvaluator
from tfx.components.evaluator import executor as tfx_executor
from tfx.dsl.components.base import executor_spec
from tfx.types import Artifact, artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.utils import path_utils

from components import served_model
from components.evaluation import old_exports
from components.evaluation.estimate import SPLIT
from components.evaluation.evaluation_result import Evaluation, ModelResult
from model.training.progress import log_if_slow

# From the proto module: newer versions of TFMA do not export all of it at their top.
from tensorflow_model_analysis.proto import config_pb2  # isort: skip

CANDIDATE, BASELINE = "candidate", "baseline"
_SIGNATURE = "elbo_examples"
_METRIC = "mean_prediction"
_OLD_EXAMPLES = "old_examples"  # a folder in the output folder, while the step runs


class Executor(tfx_executor.Executor):
    """TFX's executor, without the baseline's input when there is no baseline.

    It also converts the examples when the baseline is an export of an older release.
    """

    def Do(self, input_dict, output_dict, exec_properties):  # noqa: N802
        baseline = input_dict.get(specs.BASELINE_MODEL_KEY)
        if baseline and served_model.has_no_version(baseline[0]):
            baseline = None
            input_dict = {
                key: artifacts
                for key, artifacts in input_dict.items()
                if key != specs.BASELINE_MODEL_KEY
            }
        (evaluation,) = output_dict[specs.EVALUATION_KEY]
        old_examples = os.path.join(evaluation.uri, _OLD_EXAMPLES)
        if baseline and _needs_old_examples(baseline[0]):
            (examples,) = input_dict[specs.EXAMPLES_KEY]
            with log_if_slow("converting the test split for an older baseline"):
                converted = _convert_examples(examples, old_examples)
            input_dict = {**input_dict, specs.EXAMPLES_KEY: [converted]}
        models = "candidate and baseline" if baseline else "the candidate"
        try:
            with log_if_slow(f"measuring {models} on the test split, for the gate"):
                super().Do(input_dict, output_dict, exec_properties)
        finally:
            if tf.io.gfile.exists(old_examples):
                tf.io.gfile.rmtree(old_examples)


def _needs_old_examples(baseline: Artifact) -> bool:
    with log_if_slow("loading the baseline"):
        loaded = tf.saved_model.load(path_utils.serving_model_dir(baseline.uri))
    return old_exports.needs_old_examples(loaded.signatures)


def _convert_examples(examples: Artifact, folder: str) -> Artifact:
    """Writes the test split with the features that exports of older releases need.

    Args:
      examples: Transform's examples.
      folder: the new folder to write to; Beam's workers must be able to read it.

    Returns:
      A copy of the artifact `examples` whose URI is the folder.
    """
    source = artifact_utils.get_split_uri([examples], SPLIT)
    converted = copy.deepcopy(examples)
    converted.uri = folder
    target = artifact_utils.get_split_uri([converted], SPLIT)
    old_exports.write_old_examples(source, target)
    return converted


class Evaluator(TfxEvaluator):
    """Measures the ELBOs of both models, and blesses or refuses the candidate."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)


def make_eval_config(
    elbo_floor: float, tolerance: float, *, binary: bool = True
) -> config_pb2.EvalConfig:
    """Returns TFMA's configuration: the metrics, and the thresholds of the gate.

    The gate has two thresholds for the mean ELBO over the test split. The floor: the
    candidate's is at least `elbo_floor`. The ratchet, if there is a baseline: the
    candidate's minus the baseline's is at least -`tolerance`. The slices by label are
    reported and have no threshold.

    Args:
      elbo_floor: nats per image.
      tolerance: nats per image.
      binary: whether p(x|z) is a distribution of binary pixels.
    """
    # The log of a probability is at most 0, so an ELBO above 0 shows a broken model.
    # The log of a density, for grey pixels, may be above 0.
    bounds = {"upper_bound": {"value": 0.0}} if binary else {}
    gate = config_pb2.MetricThreshold(
        value_threshold={"lower_bound": {"value": elbo_floor}, **bounds},
        change_threshold={
            "absolute": {"value": -tolerance},
            "direction": config_pb2.MetricDirection.HIGHER_IS_BETTER,
        },
    )
    whole = config_pb2.SlicingSpec()
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                name=name,
                is_baseline=name == BASELINE,
                signature_name=_SIGNATURE,
                # Without a label, MeanPrediction returns 0.0 and blesses anything.
                label_key="label",
            )
            for name in (CANDIDATE, BASELINE)
        ],
        slicing_specs=[whole, config_pb2.SlicingSpec(feature_keys=["label"])],
        metrics_specs=[
            config_pb2.MetricsSpec(
                output_names=["elbo"],
                metrics=[
                    config_pb2.MetricConfig(
                        class_name="MeanPrediction",
                        # The field `threshold` would apply to every slice.
                        per_slice_thresholds=[
                            config_pb2.PerSliceMetricThreshold(
                                slicing_specs=[whole], threshold=gate
                            )
                        ],
                    ),
                ],
            ),
            config_pb2.MetricsSpec(
                output_names=["reconstruction", "kl"],
                metrics=[config_pb2.MetricConfig(class_name="MeanPrediction")],
            ),
            config_pb2.MetricsSpec(
                metrics=[config_pb2.MetricConfig(class_name="ExampleCount")]
            ),
        ],
    )


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
    sentences = []
    for of_slice in validation.metric_validations_per_slice:
        for failure in of_slice.failures:
            threshold = failure.metric_threshold
            value = failure.metric_value.double_value.value
            if threshold.HasField("value_threshold"):
                floor = threshold.value_threshold.lower_bound.value
                what = f"ELBO {value:.2f} must be at least the floor, {floor:.2f}"
                above = threshold.value_threshold.upper_bound
                if threshold.value_threshold.HasField("upper_bound") and (
                    value > above.value
                ):
                    what = f"ELBO {value:.2f} must not be above 0"
            else:
                least = threshold.change_threshold.absolute.value
                what = (
                    f"ELBO {value:+.2f} against the baseline must be at least "
                    f"{least:+.2f}"
                )
            sentences.append(failure.message.strip() or f"{what} nats per image")
    if not validation.validation_ok and not sentences:
        sentences.append("the evaluation has none of the slices that the gate requires")
    return sentences


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

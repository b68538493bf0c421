"""A TFMA metric: the lower end of a one-sided confidence interval of a mean."""

from collections.abc import Iterable, Mapping

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types, metric_util

from components.evaluation.comparison import Moments

# From the proto module: newer versions of TFMA do not export all of it at their top.
from tensorflow_model_analysis.proto import config_pb2  # isort: skip

# The names of its values in TFMA's result.
LOWER_END = "lower_confidence_bound"
MEAN = "mean"
STANDARD_ERROR = "standard_error"
IMAGES = "images"
VALUES = (LOWER_END, MEAN, STANDARD_ERROR, IMAGES)


class LowerConfidenceBound(metric_types.Metric):
    """The lower end of the one-sided confidence interval of a prediction's mean.

    A threshold for it refuses a mean that is too low, and one that too few images leave
    too uncertain. The metric's other values are the mean, its standard error and the
    number of images, of which the lower end is made. The lower end is -infinity over a
    single image, and NaN if a prediction is not finite: neither passes a threshold.
    """

    def __init__(self, confidence: float, name: str = LOWER_END):
        """Creates the metric from the `config` of a MetricConfig.

        Args:
          confidence: the probability that the true mean is at least the lower end.
          name: the lower end's name in TFMA's result.
        """
        super().__init__(self.computations, confidence=confidence, name=name)
        self._confidence = confidence

    def computations(
        self, eval_config: config_pb2.EvalConfig | None = None, **selected
    ) -> metric_types.MetricComputations:
        """Returns a computation for each of the selected models and outputs.

        Args:
          eval_config: TFMA's configuration, in which predictions have names.
          **selected: what else TFMA gives; `model_names`, `output_names` and
            `example_weighted` are used.
        """
        computations = []
        for model_name in selected.get("model_names") or [""]:
            for output_name in selected.get("output_names") or [""]:
                keys = {
                    name: metric_types.MetricKey(
                        name=name,
                        model_name=model_name,
                        output_name=output_name,
                        example_weighted=selected.get("example_weighted"),
                    )
                    for name in (self.name, MEAN, STANDARD_ERROR, IMAGES)
                }
                combiner = _Combiner(keys, eval_config, confidence=self._confidence)
                computations.append(
                    metric_types.MetricComputation(
                        keys=list(keys.values()), preprocessors=None, combiner=combiner
                    )
                )
        return computations


class _Combiner(beam.CombineFn):
    """Combines the predictions of parts of the examples, in any order and grouping."""

    def __init__(
        self,
        keys: Mapping[str, metric_types.MetricKey],
        eval_config: config_pb2.EvalConfig | None,
        *,
        confidence: float,
    ):
        self._keys = tuple(keys.values())
        self._eval_config = eval_config
        self._confidence = confidence

    def create_accumulator(self) -> Moments:
        return Moments()

    def add_input(
        self, accumulator: Moments, element: metric_types.StandardMetricInputs
    ) -> Moments:
        lower_end, *_ = self._keys
        for _, prediction, _ in metric_util.to_label_prediction_example_weight(
            element,
            eval_config=self._eval_config,
            model_name=lower_end.model_name,
            output_name=lower_end.output_name,
            flatten=False,
            allow_none=True,  # a label is not needed; a prediction is, see below
        ):
            if np.size(prediction) != 1:
                raise ValueError(
                    f"{lower_end} must get one prediction of each example, got "
                    f"{prediction!r}"
                )
            one = Moments(count=1, mean=np.asarray(prediction).item())
            accumulator = accumulator.merge(one)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Moments]) -> Moments:
        merged = Moments()
        for accumulator in accumulators:
            merged = merged.merge(accumulator)
        return merged

    def extract_output(
        self, accumulator: Moments
    ) -> dict[metric_types.MetricKey, float]:
        values = (
            accumulator.find_lower_end(self._confidence),
            accumulator.mean,
            accumulator.standard_error,
            float(accumulator.count),
        )
        return dict(zip(self._keys, values))

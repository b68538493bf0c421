"""Distances between data sets: of their labels, their pixels and their brightness.

StatisticsGen reads an image as a string of bytes, so its statistics of inverted images
are the same. The statistics here count the values of pixels. They are TFDV's protos, so
TFDV compares them by the comparators of the reviewed schema.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

_Measurement = anomalies_pb2.DriftSkewInfo.Measurement
Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList

DRIFT = "drift"  # from the served model's train split to this run's
SKEW = "skew"  # from the test split to the train split

PIXEL_BINS = 16  # bins over the 256 values of a pixel
MEAN_BINS = 32  # bins over the same range, for an image's mean pixel

# TFDV's measures, by their names in a schema.
MEASURES = {
    _Measurement.L_INFTY: "infinity_norm",
    _Measurement.JENSEN_SHANNON_DIVERGENCE: "jensen_shannon_divergence",
    _Measurement.NORMALIZED_ABSOLUTE_DIFFERENCE: "normalized_abs_difference",
}

# With fewer images, the labels' distance may exceed the thresholds by chance.
MIN_IMAGES = 500

_VALUES = 256  # the number of values of a pixel
_TYPES = {
    "label": schema_pb2.BYTES,  # TFDV counts categories as strings
    "pixel": schema_pb2.FLOAT,
    "image_mean": schema_pb2.FLOAT,
}


class Distance(NamedTuple):
    """The distance of one feature between two data sets."""

    feature: str
    kind: str  # DRIFT or SKEW
    distance: float
    threshold: float
    measure: str  # a value of MEASURES; each measure is in [0, 1], and 0 for equal data

    @property
    def is_too_far(self) -> bool:
        """Returns whether the distance exceeds its threshold; NaN does too."""
        return not self.distance <= self.threshold

    def __str__(self) -> str:
        return (
            f"feature '{self.feature}' by {self.distance:.4f} ({self.measure}), above "
            f"the threshold {self.threshold:g}"
        )


def compute_statistics(batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Statistics:
    """Counts labels, pixel values and mean pixels; returns the counts as TFDV's proto.

    The features are `label`, `pixel` and `image_mean`. The order of the images and the
    sizes of the batches do not change the result.

    Args:
      batches: pairs of images, uint8 [B, 784], and labels, integers [B].
    """
    labels: dict[int, int] = {}
    pixels = np.zeros(PIXEL_BINS, np.int64)
    means = np.zeros(MEAN_BINS, np.int64)
    for images, batch_labels in batches:
        for label, count in zip(*np.unique(batch_labels, return_counts=True)):
            labels[int(label)] = labels.get(int(label), 0) + int(count)
        values = np.bincount(images.ravel(), minlength=_VALUES)
        pixels += values.reshape(PIXEL_BINS, -1).sum(axis=1)
        bins = (images.mean(axis=1) * MEAN_BINS / _VALUES).astype(np.int64)
        means += np.bincount(bins, minlength=MEAN_BINS)
    result = Statistics()
    dataset = result.datasets.add(num_examples=sum(labels.values()))
    feature = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    feature.path.step.append("label")
    _set_counts(feature.string_stats.common_stats, dataset.num_examples)
    feature.string_stats.unique = len(labels)
    for label, count in sorted(labels.items()):
        feature.string_stats.rank_histogram.buckets.add(
            label=str(label), sample_count=count
        )
    for name, counts in (("pixel", pixels), ("image_mean", means)):
        feature = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
        feature.path.step.append(name)
        _set_counts(feature.num_stats.common_stats, dataset.num_examples)
        histogram = feature.num_stats.histograms.add(
            type=statistics_pb2.Histogram.STANDARD
        )
        width = _VALUES / len(counts)
        for i, count in enumerate(counts.tolist()):
            histogram.buckets.add(
                low_value=i * width, high_value=(i + 1) * width, sample_count=count
            )
    return result


def _set_counts(common: statistics_pb2.CommonStatistics, images: int) -> None:
    common.num_non_missing = common.tot_num_values = images
    common.min_num_values = common.max_num_values = 1


def count_images(found: Statistics) -> int:
    """Returns the number of images that statistics were computed from."""
    return int(found.datasets[0].num_examples)


def measure_distances(
    schema: schema_pb2.Schema,
    train: Statistics,
    *,
    test: Statistics | None,
    baseline: Statistics | None,
) -> list[Distance]:
    """Measures drift and skew of each feature that has a comparator in the schema.

    Args:
      schema: the reviewed schema.
      train: the train split's statistics.
      test: the test split's statistics; None: skew is not measured.
      baseline: statistics of the served model's train split; None: drift is not
        measured.

    Returns:
      The distances that TFDV measured, in the order of the schema's features.
    """
    # A new schema with the comparators, because the types in the reviewed schema are
    # not those of the statistics here.
    comparators = schema_pb2.Schema()
    for feature in schema.feature:
        if feature.name in _TYPES:
            copy = comparators.feature.add(name=feature.name, type=_TYPES[feature.name])
            for field in ("drift_comparator", "skew_comparator"):
                if feature.HasField(field):
                    getattr(copy, field).CopyFrom(getattr(feature, field))
    found = tfdv.validate_statistics(
        train, comparators, previous_statistics=baseline, serving_statistics=test
    )
    by_name = {info.path.step[0]: info for info in found.drift_skew_info}
    return [
        Distance(
            name,
            kind,
            measured.value,
            measured.threshold,
            MEASURES[measured.type],
        )
        for name in (feature.name for feature in comparators.feature)
        if name in by_name
        for kind, measurements in (
            (DRIFT, by_name[name].drift_measurements),
            (SKEW, by_name[name].skew_measurements),
        )
        for measured in measurements
    ]

"""How far data are from others: in their labels, their pixels and their brightness.

StatisticsGen sees an image as a string of bytes, so that inverted images are the same
to it. The statistics here are made of the pixels, as TFDV's own protos, which TFDV
compares by the comparators of the reviewed schema.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

_Measurement = anomalies_pb2.DriftSkewInfo.Measurement
Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList

DRIFT = "drift"  # train, from what the served model was trained on
SKEW = "skew"  # train, from the gate's split

PIXEL_BINS = 16  # of the 256 values of a pixel
MEAN_BINS = 32  # of the same range, for an image's mean pixel

# TFDV's measures, by their names in a schema.
MEASURES = {
    _Measurement.L_INFTY: "infinity_norm",
    _Measurement.JENSEN_SHANNON_DIVERGENCE: "jensen_shannon_divergence",
    _Measurement.NORMALIZED_ABSOLUTE_DIFFERENCE: "normalized_abs_difference",
}

# Of fewer images the labels differ by chance as much as the thresholds allow.
MIN_IMAGES = 500

_VALUES = 256  # of a pixel
_TYPES = {
    "label": schema_pb2.BYTES,  # TFDV counts categories as strings
    "pixel": schema_pb2.FLOAT,
    "image_mean": schema_pb2.FLOAT,
}


class Distance(NamedTuple):
    """How far one feature is from what it is compared with."""

    feature: str
    kind: str  # DRIFT or SKEW
    distance: float
    threshold: float
    measure: str  # a value of MEASURES; each is 0 for the same and 1 at the most

    @property
    def too_far(self) -> bool:
        """Whether the threshold is exceeded; a distance that is no number is."""
        return not self.distance <= self.threshold

    def __str__(self) -> str:
        return (
            f"feature '{self.feature}' by {self.distance:.4f} ({self.measure}), above "
            f"the threshold {self.threshold:g}"
        )


def statistics(batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Statistics:
    """Returns TFDV's statistics of the features `label`, `pixel` and `image_mean`.

    They depend neither on the images' order nor on the batches.

    Args:
      batches: pairs of images, uint8 [B, 784], and labels, integers [B].
    """
    # The labels' counts, by label; the others', of bins.
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
    _count(feature.string_stats.common_stats, dataset.num_examples)
    feature.string_stats.unique = len(labels)
    for label, count in sorted(labels.items()):
        feature.string_stats.rank_histogram.buckets.add(
            label=str(label), sample_count=count
        )
    for name, counts in (("pixel", pixels), ("image_mean", means)):
        feature = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
        feature.path.step.append(name)
        _count(feature.num_stats.common_stats, dataset.num_examples)
        histogram = feature.num_stats.histograms.add(
            type=statistics_pb2.Histogram.STANDARD
        )
        width = _VALUES / len(counts)
        for i, count in enumerate(counts.tolist()):
            histogram.buckets.add(
                low_value=i * width, high_value=(i + 1) * width, sample_count=count
            )
    return result


def _count(common: statistics_pb2.CommonStatistics, images: int) -> None:
    common.num_non_missing = common.tot_num_values = images
    common.min_num_values = common.max_num_values = 1


def images_in(found: Statistics) -> int:
    """Returns how many images statistics are of."""
    return int(found.datasets[0].num_examples)


def distances(
    schema: schema_pb2.Schema,
    train: Statistics,
    *,
    test: Statistics | None,
    baseline: Statistics | None,
) -> list[Distance]:
    """Returns what TFDV measures by the schema's comparators, in the schema's order.

    Args:
      schema: the reviewed one; a feature without a comparator is not measured.
      train: the train split's.
      test: the gate's split's, or None to measure no skew.
      baseline: of what the served model was trained on, or None to measure no drift.
    """
    # Their comparators alone: the types are those of the statistics here.
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

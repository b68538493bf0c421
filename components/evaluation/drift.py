"""Distances between data sets: of their labels, and of their pixels by value and place.

StatisticsGen reads an image as a string of bytes, so its statistics of inverted images
are the same. The statistics here count the values of pixels, and have the mean and the
variance at each position. They are TFDV's protos, so TFDV compares them by the
comparators of the reviewed schema.
"""

import collections
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from model.config import IMAGE_SHAPE

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
_WHITE = _VALUES - 1  # the largest of them
_LABEL = "label"
_DRIFT_COMPARATOR = "drift_comparator"
_TYPES = {
    _LABEL: schema_pb2.BYTES,  # TFDV counts categories as strings
    "pixel": schema_pb2.FLOAT,
    "image_mean": schema_pb2.FLOAT,
    "position_mean": schema_pb2.FLOAT,
    "position_variance": schema_pb2.FLOAT,
    "row_mean": schema_pb2.FLOAT,
    "column_mean": schema_pb2.FLOAT,
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
            f"feature '{self.feature}' by {self.distance:.4g} ({self.measure}), above "
            f"the threshold {self.threshold:g}"
        )


def compute_statistics(batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Statistics:
    """Counts labels and pixels, and returns the counts as TFDV's proto.

    The order of the images and the sizes of the batches do not change the result. Its
    features are:
      label: the number of images of each label.
      pixel: the number of pixels in each range of values.
      image_mean: the number of images in each range of their mean pixel.
      position_mean: the mean image, as `_count_shares` encodes it.
      position_variance: the variance at each position, over the images, as a share of
        the largest variance that values from 0 to 255 can have.
      row_mean, column_mean: the mean of each row and each column of the mean image.

    Args:
      batches: pairs of images, uint8 [B, 784], and labels, integers [B].
    """
    labels: collections.Counter[int] = collections.Counter()
    values = np.zeros(_VALUES, np.int64)
    means = np.zeros(MEAN_BINS, np.int64)
    sums, squares = np.zeros([2, *IMAGE_SHAPE])
    for images, batch_labels in batches:
        for label, count in zip(*np.unique(batch_labels, return_counts=True)):
            labels[int(label)] += int(count)
        values += np.bincount(images.ravel(), minlength=_VALUES)
        bins = (images.mean(axis=1) * MEAN_BINS / _VALUES).astype(np.int64)
        means += np.bincount(bins, minlength=MEAN_BINS)
        # float64 adds integers below 2^53 exactly, in any order.
        pixels = images.reshape(-1, *IMAGE_SHAPE).astype(np.float64)
        sums += np.einsum("bhwc->hwc", pixels)
        squares += np.einsum("bhwc,bhwc->hwc", pixels, pixels)
    number = labels.total()
    mean = sums / _WHITE / max(number, 1)
    variance = squares / _WHITE**2 / max(number, 1) - mean**2
    histograms = {
        "pixel": (values.reshape(PIXEL_BINS, -1).sum(axis=1), _VALUES),
        "image_mean": (means, _VALUES),
    }
    shares = {
        "position_mean": mean,
        # Values in [0, 1] have at most the variance 1/4: when half are 0 and half 1.
        "position_variance": 4 * variance,
        "row_mean": mean.mean(axis=(1, 2)),
        "column_mean": mean.mean(axis=(0, 2)),
    }
    for name, share in shares.items():
        counts = _count_shares(share, number)
        histograms[name] = (counts, len(counts))
    return _make_statistics(labels, histograms)


def _count_shares(shares: np.ndarray, count: int) -> np.ndarray:
    """Returns a histogram with two bins for each share: it, and what it lacks to 1.

    The Jensen-Shannon divergence of two such histograms is the mean, over the shares,
    of the divergence of two Bernoulli distributions. So a position that is white where
    it was black counts as much as the opposite, a change of contrast counts, too, and
    black images have a histogram like all others. If only the distribution of white
    over the positions were compared, black images would have none, and all distances
    of images with a white background would be smaller.

    Args:
      shares: numbers in [0, 1], of any shape; beyond that by a rounding error.
      count: the number of images, the sum of each pair of bins.
    """
    shares = np.clip(shares.ravel(), 0.0, 1.0)
    return count * np.stack([shares, 1.0 - shares], axis=1).ravel()


def _make_statistics(
    labels: Mapping[int, int], histograms: Mapping[str, tuple[np.ndarray, int]]
) -> Statistics:
    """Returns TFDV's proto of the labels' counts and of histograms.

    Args:
      labels: the number of images by label.
      histograms: the counts of bins of equal width from 0 to an end, and that end, by
        the name of the feature.
    """
    result = Statistics()
    dataset = result.datasets.add(num_examples=sum(labels.values()))
    feature = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    feature.path.step.append(_LABEL)
    _set_counts(feature.string_stats.common_stats, dataset.num_examples)
    feature.string_stats.unique = len(labels)
    for label, count in sorted(labels.items()):
        feature.string_stats.rank_histogram.buckets.add(
            label=str(label), sample_count=count
        )
    for name, (counts, end) in histograms.items():
        feature = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
        feature.path.step.append(name)
        _set_counts(feature.num_stats.common_stats, dataset.num_examples)
        histogram = feature.num_stats.histograms.add(
            type=statistics_pb2.Histogram.STANDARD
        )
        width = end / len(counts)
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


def list_missing_features(schema: schema_pb2.Schema, baseline: Statistics) -> list[str]:
    """Returns the features whose drift cannot be measured: the baseline lacks them.

    An older release, which had fewer features, computed such statistics.

    Args:
      schema: the reviewed schema.
      baseline: statistics of the served model's train split.

    Returns:
      The names of features with a drift comparator, in the order of the schema.
    """
    known = {feature.path.step[0] for feature in baseline.datasets[0].features}
    return [
        feature.name
        for feature in schema.feature
        if feature.name in _TYPES.keys() - known and feature.HasField(_DRIFT_COMPARATOR)
    ]


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
        measured, and neither is that of a feature that they lack.

    Returns:
      The distances that TFDV measured, in the order of the schema's features.
    """
    # A new schema with the comparators, because the types in the reviewed schema are
    # not those of the statistics here.
    comparators = schema_pb2.Schema()
    missing = [] if baseline is None else list_missing_features(schema, baseline)
    for feature in schema.feature:
        if feature.name in _TYPES:
            copy = comparators.feature.add(name=feature.name, type=_TYPES[feature.name])
            for field in (_DRIFT_COMPARATOR, "skew_comparator"):
                is_missing = field == _DRIFT_COMPARATOR and feature.name in missing
                if feature.HasField(field) and not is_missing:
                    getattr(copy, field).CopyFrom(getattr(feature, field))
    found = tfdv.validate_statistics(
        train, comparators, previous_statistics=baseline, serving_statistics=test
    )
    by_name = {info.path.step[0]: info for info in found.drift_skew_info}
    return [
        Distance(
            name,
            kind,
            max(measured.value, 0.0),  # not -1e-17; NaN stays
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

"""The comparison of two models on the same images: differences with intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_WIDTH = 1.959964  # standard errors from the mean to each end of a 95% interval


class Interval(NamedTuple):
    """A mean and its 95% confidence interval."""

    mean: float
    low: float
    high: float


class DigitComparison(NamedTuple):
    """The mean ELBOs over the images of one label, in nats per image."""

    label: int
    images: int
    elbo: float
    baseline: float | None
    difference: Interval | None  # candidate - baseline
    worse: bool  # whether the whole interval is below 0


def compute_interval(differences: np.ndarray) -> Interval:
    """Returns the mean of paired differences and its 95% interval.

    The interval is the normal approximation, for which thousands of images are enough.
    For a single image it is infinite.

    Args:
      differences: each image's ELBO of the candidate minus that of the baseline, [N],
        nats.
    """
    mean = float(np.mean(differences))
    if len(differences) < 2:
        return Interval(mean, -math.inf, math.inf)
    error = float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    return Interval(mean, mean - _WIDTH * error, mean + _WIDTH * error)


def compare_by_digit(
    labels: np.ndarray, elbo: np.ndarray, *, baseline: np.ndarray | None
) -> Sequence[DigitComparison]:
    """Returns the mean ELBOs and the models' difference for each label.

    Args:
      labels: each image's label, int [N].
      elbo: the candidate's ELBO of each image, [N], nats.
      baseline: the baseline's ELBO of each image, [N], nats; None: there is no
        baseline.
    """
    digits = []
    for label in np.unique(labels):
        has_label = labels == label
        baseline_elbo = difference = None
        if baseline is not None:
            baseline_elbo = float(np.mean(baseline[has_label]))
            difference = compute_interval(elbo[has_label] - baseline[has_label])
        digits.append(
            DigitComparison(
                label=int(label),
                images=int(has_label.sum()),
                elbo=float(np.mean(elbo[has_label])),
                baseline=baseline_elbo,
                difference=difference,
                worse=difference is not None and difference.high < 0,
            )
        )
    return digits

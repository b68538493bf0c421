"""Two models on the same images: how much one is better, and how sure that is."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_WIDTH = 1.959964  # standard errors on either side of a 95% interval


class Interval(NamedTuple):
    """A mean, and where it lies with 95% confidence."""

    mean: float
    low: float
    high: float


class Digit(NamedTuple):
    """What the images of one label come to, in nats per image."""

    label: int
    images: int
    elbo: float
    baseline: float | None
    difference: Interval | None  # candidate - baseline
    worse: bool  # the whole interval is below 0


def interval(differences: np.ndarray) -> Interval:
    """Returns the mean of paired differences and its 95% interval.

    By the normal approximation, of which thousands of images are enough; of one image
    there is no saying, and the interval is everything.

    Args:
      differences: candidate - baseline of each image, [N], nats.
    """
    mean = float(np.mean(differences))
    if len(differences) < 2:
        return Interval(mean, -math.inf, math.inf)
    error = float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    return Interval(mean, mean - _WIDTH * error, mean + _WIDTH * error)


def by_digit(
    labels: np.ndarray, elbo: np.ndarray, *, baseline: np.ndarray | None
) -> Sequence[Digit]:
    """Returns what the images of each label come to.

    Args:
      labels: int [N].
      elbo: of the candidate, [N], nats.
      baseline: of the baseline, [N], nats; None if there is none.
    """
    digits = []
    for label in np.unique(labels):
        ours = labels == label
        of_baseline = difference = None
        if baseline is not None:
            of_baseline = float(np.mean(baseline[ours]))
            difference = interval(elbo[ours] - baseline[ours])
        digits.append(
            Digit(
                label=int(label),
                images=int(ours.sum()),
                elbo=float(np.mean(elbo[ours])),
                baseline=of_baseline,
                difference=difference,
                worse=difference is not None and difference.high < 0,
            )
        )
    return digits

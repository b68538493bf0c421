"""The comparison of two models on the same images: differences with intervals.

Every interval is Student's, from the mean and the standard error of the images'
differences. The gate's has one end, the report's have two.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

_REPORTED = 0.95  # the confidence of the report's intervals


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """The number of values, their mean and their spread; parts of data can be merged.

    Equal values have exactly their value as mean, and exactly 0 as standard error. With
    a value that is not finite, the lower end of every interval is NaN or -infinity.

    Source: Chan, Golub, LeVeque 1983, Algorithms for Computing the Sample Variance,
    eq. 1.5.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # the sum of the squared deviations from the mean

    @classmethod
    def from_values(cls, values: np.ndarray) -> "Moments":
        """Returns the moments of values, [N]."""
        if not len(values):
            return cls()
        # Of the deviations from the first value: a sum of equal values is rounded.
        with np.errstate(invalid="ignore"):
            deviations = np.asarray(values, np.float64) - values[0]
            shift = np.mean(deviations)
            squares = np.sum(np.square(deviations - shift))
        return cls(
            count=len(values), mean=float(values[0] + shift), squares=float(squares)
        )

    def merge(self, other: "Moments") -> "Moments":
        """Returns the moments of both parts' values together."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        step = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + step * (other.count / count),
            squares=self.squares
            + other.squares
            + step * step * (self.count * other.count / count),
        )

    @property
    def standard_error(self) -> float:
        """Returns the standard error of the mean; infinite for less than two values."""
        if self.count < 2:
            return math.inf
        return math.sqrt(self.squares / (self.count - 1) / self.count)

    def compute_margin(self, confidence: float) -> float:
        """Returns how far below its estimate the true mean may be.

        Args:
          confidence: the probability that it is not farther below, in (0.5, 1).
        """
        error = self.standard_error
        if self.count < 2:
            return error
        return float(special.stdtrit(self.count - 1, confidence)) * error

    def find_lower_end(self, confidence: float) -> float:
        """Returns the lower end of the one-sided confidence interval of the mean.

        Args:
          confidence: the probability that the true mean is at least this, in (0.5, 1).

        Returns:
          -infinity for less than two values; also -infinity or NaN if a value is not
          finite.
        """
        return self.mean - self.compute_margin(confidence)


def compute_interval(differences: np.ndarray) -> Interval:
    """Returns the mean of paired differences and its two-sided 95% interval.

    For a single image it is infinite.

    Args:
      differences: each image's ELBO of the candidate minus that of the baseline, [N],
        nats.
    """
    moments = Moments.from_values(differences)
    # Each of the two ends is exceeded with half of the remaining probability.
    margin = moments.compute_margin((1 + _REPORTED) / 2)
    return Interval(moments.mean, moments.mean - margin, moments.mean + margin)


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

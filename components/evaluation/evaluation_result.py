"""The Evaluator's result: mean ELBOs, and the log-likelihood to compare them with."""

import dataclasses
import decimal
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelResult:
    """One model's means over the test split, in nats per image."""

    elbo: float
    reconstruction: float
    kl: float
    elbo_by_label: Mapping[int, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """The mean over images of the candidate's ELBO minus the baseline's, in nats.

    With the probability `confidence`, the true mean is at least `lower_end`.
    """

    images: int  # the number of images, each with an ELBO of both models
    mean: float
    standard_error: float  # of the mean; infinite for one image
    lower_end: float  # -infinity for one image
    confidence: float

    def describe(self) -> str:
        """Returns a text for people with the mean and the lower end."""
        confidence = format_confidence(self.confidence)
        return (
            f"{self.mean:+.2f} (with {confidence} confidence at least "
            f"{self.lower_end:+.2f})"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The means of the candidate, of the baseline and of independent pixels."""

    candidate: ModelResult
    baseline: ModelResult | None  # None: nothing was served
    # The mean log-likelihood under independent pixels, in nats per image.
    independent_pixels: float
    images: int  # the number of images that the means are over
    difference: Difference | None = None  # None: nothing was served


def describe_independent_pixels(nats: float) -> str:
    """Returns a text for people with the log-likelihood to compare an ELBO with.

    Args:
      nats: the mean log-likelihood under independent pixels, nats per image.
    """
    return f"independent pixels: {nats:.2f} nats per image (log-likelihood)"


def format_confidence(confidence: float) -> str:
    """Returns a probability as a percentage with all of its digits, such as `99.9%`."""
    percent = decimal.Decimal(repr(confidence)) * 100
    return f"{percent.normalize():f}%"

"""The Evaluator's result: the mean ELBOs of the candidate and the baseline."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelResult:
    """One model's means over the test split, in nats per image."""

    elbo: float
    reconstruction: float
    kl: float
    elbo_by_label: Mapping[int, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The means of the candidate and the baseline."""

    candidate: ModelResult
    baseline: ModelResult | None  # None: nothing was served
    images: int  # the number of images that the means are over

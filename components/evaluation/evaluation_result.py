"""What the Evaluator measured: the mean ELBOs of the candidate and the baseline."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelResult:
    """The means of one model over the test split, in nats per image."""

    elbo: float
    reconstruction: float
    kl: float
    elbo_by_label: Mapping[int, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The means of both models."""

    candidate: ModelResult
    baseline: ModelResult | None  # None: nothing was served
    images: int  # that each is the mean of

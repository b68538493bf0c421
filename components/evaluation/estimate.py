"""How a bound on log p(x) is estimated: what every figure of it is given with."""

import dataclasses
import enum
from typing import Literal

from components.registry.manifest import Manifest
from model.config import ModelConfig

SPLIT = "test"  # every model is measured on it


class Bound(enum.Enum):
    """A bound on log p(x), by its name in words."""

    ELBO = "the evidence lower bound"
    IWAE = "the importance-weighted bound"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """How a bound is estimated."""

    bound: Bound
    samples: int  # of z per image
    seed: int  # of those samples and of the binarization
    binarization: Literal["fixed"] | None  # None: the pixels stay grey
    images: int | None = None  # that it is the mean of; None: it is of one image
    split: str = SPLIT

    @classmethod
    def of_model(
        cls,
        bound: Bound,
        model: ModelConfig,
        *,
        samples: int,
        seed: int,
        images: int | None = None,
    ) -> "Estimate":
        """Returns the estimate of a bound of a model."""
        binarization: Literal["fixed"] | None = "fixed" if model.is_binary else None
        return cls(
            bound=bound,
            samples=samples,
            seed=seed,
            binarization=binarization,
            images=images,
        )

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> "Estimate | None":
        """Returns how the gate estimated a version's ELBO.

        None if the manifest does not say; `images` is None if it gives no number.
        """
        model, samples, seed = manifest.model, manifest.samples, manifest.seed
        if model is None or samples is None or seed is None:
            return None
        return cls.of_model(
            Bound.ELBO, model, samples=samples, seed=seed, images=manifest.images
        )

    def describe(self) -> str:
        """Returns the estimate in words."""
        pixels = f"{self.binarization} binarization"
        if self.binarization is None:
            pixels = "grey pixels"
        text = (
            f"{self.bound.value}, {self.samples:,} samples of z per image, {pixels}, "
            f"seed {self.seed}"
        )
        if self.images is None:
            return text
        return f"{text}, {self.images:,} images of the {self.split} split"

"""The way in which a bound on log p(x) is estimated.

Commands print it beside each estimate, because estimates that differ in it are not
comparable.
"""

import dataclasses
import enum
from typing import Literal

from components.registry.manifest import Manifest
from model.config import ModelConfig

SPLIT = "test"  # the split on which every model is measured


class Bound(enum.Enum):
    """A bound on log p(x); the values are the names in messages."""

    ELBO = "the evidence lower bound"
    IWAE = "the importance-weighted bound"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """The samples, the seed and the images with which a bound is estimated."""

    bound: Bound
    samples: int  # samples of z per image
    seed: int  # seed of those samples and of the binarization
    binarization: Literal["fixed"] | None  # None: the pixels stay grey
    images: int | None = None  # None: the bound is one image's, not a mean over images
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
        """Returns how a bound is estimated for a model of this configuration.

        Args:
          bound: the bound.
          model: the configuration, which decides about the binarization.
          samples: samples of z per image.
          seed: the seed of those samples and of the binarization.
          images: the number of images that the mean is over; None: the bound is one
            image's.
        """
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

        Args:
          manifest: the version's manifest.

        Returns:
          None if the manifest lacks the model's configuration, the samples or the seed;
          `images` is None if the manifest lacks the number of images.
        """
        model, samples, seed = manifest.model, manifest.samples, manifest.seed
        if model is None or samples is None or seed is None:
            return None
        return cls.of_model(
            Bound.ELBO, model, samples=samples, seed=seed, images=manifest.images
        )

    def describe(self) -> str:
        """Returns a text for people with the bound and how it is estimated."""
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

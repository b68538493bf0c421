"""What the VAE is made of and how it is trained."""

import dataclasses
from typing import Literal

IMAGE_SHAPE = (28, 28, 1)  # height, width, channels


def check_at_least(section: object, field: str, least: float) -> None:
    """Raises ValueError unless the field of the section is at least `least`."""
    value = getattr(section, field)
    if not value >= least:  # so that NaN fails too
        raise ValueError(f"{field} must be at least {least}, got {value}")


def check_above(section: object, field: str, bound: float) -> None:
    """Raises ValueError unless the field of the section is above `bound`."""
    value = getattr(section, field)
    if not value > bound:
        raise ValueError(f"{field} must be above {bound}, got {value}")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What the VAE is made of."""

    network: Literal["blog", "dense"] = "dense"  # convolutions, or dense layers
    latent_size: int = 16  # length of z
    base_depth: int = 32  # blog: channels of the first convolution
    hidden_units: int = 512  # dense: units of each of the two hidden layers
    beta: float = 1.0  # weight of the KL term in training; 1.0 trains the true ELBO

    def __post_init__(self):
        check_at_least(self, "latent_size", 1)
        check_at_least(self, "base_depth", 1)
        check_at_least(self, "hidden_units", 1)
        check_at_least(self, "beta", 0.0)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How the VAE is trained."""

    epochs: int = 10  # passes over the train split
    batch_size: int = 256  # images a step, over all replicas together
    learning_rate: float = 2e-3  # Adam's, at its peak
    schedule: Literal["constant", "cosine"] = "cosine"  # after the warm-up
    warmup_steps: int = 200  # steps over which the learning rate rises from 0
    clip_norm: float | None = 5.0  # bound on the gradients' global norm; null: none
    seed: int = 0  # of the weights, the order of the images and the noise
    replicas: int = 0  # logical CPU devices; 0: every GPU, or the one CPU

    def __post_init__(self):
        check_at_least(self, "epochs", 1)
        check_at_least(self, "batch_size", 1)
        check_above(self, "learning_rate", 0.0)
        check_at_least(self, "warmup_steps", 0)
        if self.clip_norm is not None:
            check_above(self, "clip_norm", 0.0)
        check_at_least(self, "seed", 0)
        check_at_least(self, "replicas", 0)
        if self.replicas and self.batch_size % self.replicas:
            raise ValueError(
                f"batch_size must be a multiple of replicas ({self.replicas}), "
                f"got {self.batch_size}"
            )

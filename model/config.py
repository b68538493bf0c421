"""What the VAE is made of and how it is trained."""

import dataclasses
from typing import Literal

IMAGE_SHAPE = (28, 28, 1)  # height, width, channels


def check_at_least(section: object, field: str, *, least: float) -> None:
    """Raises ValueError unless the field of the section is at least `least`."""
    value = getattr(section, field)
    if not value >= least:  # so that NaN fails too
        raise ValueError(f"{field} must be at least {least}, got {value}")


def check_above(section: object, field: str, *, bound: float) -> None:
    """Raises ValueError unless the field of the section is above `bound`."""
    value = getattr(section, field)
    if not value > bound:
        raise ValueError(f"{field} must be above {bound}, got {value}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What the VAE is made of: each choice's source stands where it is built."""

    network: Literal["blog", "dense", "conv_residual"] = "dense"
    latent_size: int = 16  # length of z
    base_depth: int = 32  # blog, conv_residual: channels of the first convolution
    hidden_units: int = 512  # of each hidden dense layer
    posterior: Literal["diagonal", "full", "iaf"] = "full"  # q(z|x)
    posterior_layers: int = 2  # iaf: autoregressive transformations
    prior: Literal["standard", "mixture", "vampprior", "realnvp"] = "standard"  # p(z)
    prior_components: int = 100  # mixture, vampprior: how many
    prior_layers: int = 4  # realnvp: coupling layers
    flow_units: int = 128  # iaf, realnvp: units of each flow network's hidden layers
    likelihood: Literal["bernoulli", "continuous_bernoulli"] = "bernoulli"  # p(x|z)
    beta: float = 1.0  # weight of the KL term in training; 1.0 trains the true ELBO
    free_bits: float = 0.0  # nats of KL (or its sample) per image, not penalized

    def __post_init__(self):
        check_at_least(self, "latent_size", least=1)
        check_at_least(self, "base_depth", least=1)
        check_at_least(self, "hidden_units", least=1)
        check_at_least(self, "posterior_layers", least=1)
        check_at_least(self, "prior_components", least=1)
        check_at_least(self, "prior_layers", least=1)
        check_at_least(self, "flow_units", least=1)
        check_at_least(self, "beta", least=0.0)
        check_at_least(self, "free_bits", least=0.0)
        if self.prior == "vampprior" and self.posterior == "iaf":
            # p(z) is a mixture of posteriors, and an IAF's density at a z that it did
            # not draw takes a pass per dimension.
            raise ValueError(
                "posterior must be diagonal or full with prior vampprior, got iaf"
            )
        # A flow of one latent has nothing to make it depend on.
        flows = {"prior": "realnvp", "posterior": "iaf"}
        for field, flow in flows.items():
            if getattr(self, field) == flow and self.latent_size < 2:
                raise ValueError(
                    f"latent_size must be at least 2 with {field} {flow}, "
                    f"got {self.latent_size}"
                )

    @property
    def binary(self) -> bool:
        """Whether p(x|z) is of binary pixels, so that grey ones are binarized first."""
        return self.likelihood == "bernoulli"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the VAE is trained."""

    epochs: int = 10  # passes over the train split
    batch_size: int = 256  # images a step, over all replicas together
    learning_rate: float = 2e-3  # Adam's, at its peak
    schedule: Literal["constant", "cosine"] = "cosine"  # after the warm-up
    warmup_steps: int = 200  # steps over which the learning rate rises from 0
    kl_warmup_steps: int = 0  # steps over which the weight of the KL term rises to beta
    clip_norm: float | None = 5.0  # bound on the gradients' global norm; null: none
    weight_decay: float = 0.0  # AdamW's, of the kernels; 0: Adam
    ema: float = 0.0  # decay of the weights' moving average, which is kept; 0: none
    patience: int | None = None  # epochs without a better eval ELBO; null: no stopping
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of the networks
    seed: int = 0  # of the weights, the order of the images and the noise
    replicas: int = 0  # logical CPU devices; 0: every GPU, or the one CPU
    warm_start: bool = False  # begin with the weights of the model that is served
    checkpoint_minutes: float = 5.0  # between checkpoints, beside one an epoch

    def __post_init__(self):
        check_at_least(self, "epochs", least=1)
        check_at_least(self, "batch_size", least=1)
        check_above(self, "learning_rate", bound=0.0)
        check_at_least(self, "warmup_steps", least=0)
        check_at_least(self, "kl_warmup_steps", least=0)
        if self.clip_norm is not None:
            check_above(self, "clip_norm", bound=0.0)
        check_at_least(self, "weight_decay", least=0.0)
        check_at_least(self, "ema", least=0.0)
        if not self.ema < 1.0:
            raise ValueError(f"ema must be below 1.0, got {self.ema}")
        if self.patience is not None:
            check_at_least(self, "patience", least=1)
        check_at_least(self, "seed", least=0)
        if not self.seed < 2**32:  # NumPy's
            raise ValueError(f"seed must be below 2**32, got {self.seed}")
        check_at_least(self, "replicas", least=0)
        if self.replicas and self.batch_size % self.replicas:
            raise ValueError(
                f"batch_size must be a multiple of replicas ({self.replicas}), "
                f"got {self.batch_size}"
            )
        check_above(self, "checkpoint_minutes", bound=0.0)

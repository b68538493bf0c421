"""What the VAE is made of and how it is trained.

The defaults are the default preset. Each field carries its range and its description,
with the unit: messages and references of the settings are made from them.
"""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

IMAGE_SHAPE = (28, 28, 1)  # height, width, channels

# Of every section: no unknown field, no text for a number, and only finite numbers.
SECTION = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=SECTION)
class ModelConfig:
    """What the VAE is made of: each choice's source stands where it is built."""

    network: Annotated[
        Literal["blog", "dense", "conv_residual"],
        Field(description="encoder and decoder; blog: the post's convolutions"),
    ] = "conv_residual"
    latent_size: Annotated[int, Field(ge=1, description="length of z")] = 32
    base_depth: Annotated[
        int,
        Field(
            ge=1, description="blog, conv_residual: channels of the first convolution"
        ),
    ] = 16
    hidden_units: Annotated[
        int, Field(ge=1, description="units of each hidden dense layer")
    ] = 256
    posterior: Annotated[
        Literal["diagonal", "full", "iaf"], Field(description="q(z|x)")
    ] = "diagonal"
    posterior_layers: Annotated[
        int, Field(ge=1, description="iaf: number of autoregressive transformations")
    ] = 2
    prior: Annotated[
        Literal["standard", "mixture", "vampprior", "realnvp"],
        Field(description="p(z)"),
    ] = "realnvp"
    prior_components: Annotated[
        int, Field(ge=1, description="mixture, vampprior: number of components")
    ] = 100
    prior_layers: Annotated[
        int, Field(ge=1, description="realnvp: number of coupling layers")
    ] = 6
    flow_units: Annotated[
        int,
        Field(
            ge=1, description="iaf, realnvp: units of each flow network's hidden layers"
        ),
    ] = 256
    likelihood: Annotated[
        Literal["bernoulli", "continuous_bernoulli"], Field(description="p(x|z)")
    ] = "bernoulli"
    beta: Annotated[
        float,
        Field(
            ge=0.0,
            description="weight of the KL term in training; 1.0 trains the true ELBO, "
            "which is the one that is reported for every beta",
        ),
    ] = 1.0
    free_bits: Annotated[
        float,
        Field(
            ge=0.0,
            description="nats of KL (or its sample) per image that are not penalized",
        ),
    ] = 0.0

    def __post_init__(self):
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
    def is_binary(self) -> bool:
        """Whether p(x|z) is of binary pixels, so that grey ones are binarized first."""
        return self.likelihood == "bernoulli"


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=SECTION)
class TrainConfig:
    """How the VAE is trained."""

    epochs: Annotated[int, Field(ge=1, description="passes over the train split")] = 5
    batch_size: Annotated[
        int, Field(ge=1, description="images per step, over all replicas together")
    ] = 64
    learning_rate: Annotated[
        float, Field(gt=0.0, description="Adam's learning rate at its peak")
    ] = 3e-3
    schedule: Annotated[
        Literal["constant", "cosine"],
        Field(description="of the learning rate, after the warm-up"),
    ] = "cosine"
    warmup_steps: Annotated[
        int,
        Field(
            ge=0,
            description="steps over which the learning rate rises from 0 (a tenth of "
            "all steps at most)",
        ),
    ] = 600
    kl_warmup_steps: Annotated[
        int,
        Field(ge=0, description="steps over which the KL term's weight rises to beta"),
    ] = 0
    clip_norm: Annotated[
        float | None,
        Field(gt=0.0, description="bound on the gradients' global norm; null: none"),
    ] = 50.0
    weight_decay: Annotated[
        float, Field(ge=0.0, description="AdamW's, of the kernels; 0: Adam")
    ] = 0.0
    ema: Annotated[
        float,
        Field(
            ge=0.0,
            lt=1.0,
            description="decay of the weights' moving average, which is kept; 0: none",
        ),
    ] = 0.999
    patience: Annotated[
        int | None,
        Field(
            ge=1,
            description="epochs without a better ELBO on the eval split after which "
            "training stops and the best weights are kept; null: never",
        ),
    ] = None
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(
            description="of the hidden layers; auto: bfloat16 where the processor has "
            "it, float32 elsewhere"
        ),
    ] = "auto"
    seed: Annotated[
        int,
        Field(
            ge=0,
            lt=2**32,  # NumPy's
            description="of the weights, the order of the images and the noise",
        ),
    ] = 0
    replicas: Annotated[
        int,
        Field(
            ge=0, description="logical CPU devices; 0: every GPU, or else the one CPU"
        ),
    ] = 0
    warm_start: Annotated[
        bool, Field(description="begin with the weights of the served model")
    ] = False
    checkpoint_minutes: Annotated[
        float,
        Field(
            gt=0.0,
            description="minutes between checkpoints, besides the one after each epoch",
        ),
    ] = 5.0

    def __post_init__(self):
        if self.replicas and self.batch_size % self.replicas:
            raise ValueError(
                f"batch_size must be a multiple of replicas ({self.replicas}), "
                f"got {self.batch_size}"
            )

"""The settings of the VAE and of its training.

The defaults are those of the default preset. Each field has a range and a description
with the unit: the error messages and the reference of the settings are made from them.
"""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

IMAGE_SHAPE = (28, 28, 1)  # height, width, channels

# Every section refuses unknown fields, text in place of a number, infinity and NaN.
SECTION = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=SECTION)
class ModelConfig:
    """The settings of the VAE's networks and distributions.

    The paper behind each choice is named in the module that builds it.
    """

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
            # p(z) is a mixture of posteriors. The density of an IAF at a z that it did
            # not draw needs one pass through the network per dimension.
            raise ValueError(
                "posterior must be diagonal or full with prior vampprior, got iaf"
            )
        # Each latent of a flow depends on other latents: one latent has no others.
        flows = {"prior": "realnvp", "posterior": "iaf"}
        for field, flow in flows.items():
            if getattr(self, field) == flow and self.latent_size < 2:
                raise ValueError(
                    f"latent_size must be at least 2 with {field} {flow}, "
                    f"got {self.latent_size}"
                )

    @property
    def is_binary(self) -> bool:
        """Returns whether p(x|z) is over binary pixels: grey ones must be binarized."""
        return self.likelihood == "bernoulli"


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=SECTION)
class TrainConfig:
    """The settings of the training: optimizer, schedules, devices and checkpoints."""

    epochs: Annotated[int, Field(ge=1, description="passes over the train split")] = 5
    batch_size: Annotated[
        int, Field(ge=1, description="images per step, over all replicas together")
    ] = 64
    learning_rate: Annotated[
        float, Field(gt=0.0, description="Adam's learning rate at its peak")
    ] = 3e-3
    schedule: Annotated[
        Literal["constant", "cosine"],
        Field(description="course of the learning rate after the warm-up"),
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
        Field(
            gt=0.0, description="bound on the gradients' global norm; null: no bound"
        ),
    ] = 50.0
    weight_decay: Annotated[
        float,
        Field(ge=0.0, description="AdamW's weight decay of the kernels; 0: plain Adam"),
    ] = 0.0
    ema: Annotated[
        float,
        Field(
            ge=0.0,
            lt=1.0,
            description="decay of the weights' moving average, which becomes the "
            "model; 0: the last weights become the model",
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
            description="number format of the hidden layers; auto: bfloat16 if the "
            "processor supports it, else float32"
        ),
    ] = "auto"
    seed: Annotated[
        int,
        Field(
            ge=0,
            lt=2**32,  # NumPy's limit
            description="seed of the first weights, the order of the images and the "
            "noise",
        ),
    ] = 0
    replicas: Annotated[
        int,
        Field(
            ge=0, description="logical CPU devices; 0: every GPU, or the CPU if none"
        ),
    ] = 0
    warm_start: Annotated[
        bool, Field(description="start with the weights of the served model")
    ] = False
    checkpoint_minutes: Annotated[
        float,
        Field(
            gt=0.0,
            description="minutes between two checkpoints within an epoch; each epoch "
            "also ends with one",
        ),
    ] = 5.0

    def __post_init__(self):
        if self.replicas and self.batch_size % self.replicas:
            raise ValueError(
                f"batch_size must be a multiple of replicas ({self.replicas}), "
                f"got {self.batch_size}"
            )

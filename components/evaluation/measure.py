"""Measurements of a SavedModel on images: bounds on log p(x) and active latents."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from components.evaluation.scores import TERMS, Scores
from model.errors import PipelineError
from model.training.progress import log_if_slow

Signatures = Mapping[str, Callable[..., Any]]

# Images per call. With a dense network on two cores, any number from 32 is as fast, but
# 512 or more do not fit into the processor's cache: each image takes 1.3 times as long.
BATCH = 128

_ACTIVE = 0.01  # the variance of an active latent is above this


class SignatureError(PipelineError):
    """A SavedModel lacks signatures that are required."""


class Measurements(NamedTuple):
    """A model's means over images, in nats per image, and its active latents."""

    images: int
    elbo: float
    reconstruction: float
    kl: float
    iwae: float
    k: int  # samples of z per image in `iwae`
    active_dimensions: int
    latent_size: int

    def describe_active(self) -> str:
        """Returns the number of active latent dimensions as text, such as `9 of 16`."""
        return f"{self.active_dimensions} of {self.latent_size}"


def load_signatures(model_dir: str, *names: str) -> Signatures:
    """Loads a SavedModel and returns its signatures; checks that none is missing.

    Args:
      model_dir: the SavedModel's folder.
      names: the required signatures; by default those that `measure_batches` calls.

    Raises:
      SignatureError: a required signature is missing.
    """
    *first, last = names or ("elbo", "iwae", "encode")
    with log_if_slow("loading the model"):
        signatures = tf.saved_model.load(model_dir).signatures
    missing = {*first, last} - set(signatures)
    if missing:
        several = f"s {', '.join(first)} and {last}" if first else f" {last}"
        raise SignatureError(
            f"the model must have the signature{several}, it lacks "
            f"{', '.join(sorted(missing))}: an older release exported it, train it anew"
        )
    return signatures


def measure_batches(
    signatures: Signatures,
    batches: tf.data.Dataset,
    *,
    k: int,
    scores: Scores | None = None,
) -> Iterator[tuple[Measurements, np.ndarray]]:
    """Measures a model's bounds and active latents on images, batch by batch.

    A latent dimension is active if the variance over images of the posterior's mean is
    above 0.01. The mean is the output `loc` of the signature `encode`; for an IAF
    posterior, `loc` is z at zero noise.

    Args:
      signatures: the model's signatures.
      batches: batches of images, uint8 [B, 28, 28, 1]; the pixels are 0 or 255 for a
        model of binary pixels.
      k: samples of z per image in the importance-weighted bound.
      scores: the ELBO and its terms of the images, in their order; None: they are
        measured, too.

    Yields:
      After each batch, the means over all images so far, and the posterior's mean of
      each image of this batch, float32 [B, Z].

    Source: Burda et al. 2016, Importance Weighted Autoencoders, eq. 8 and section 5.2.
    """
    count, loc_sum, loc_squares = 0, np.float64(0), np.float64(0)
    sums = dict.fromkeys((*TERMS, "iwae"), np.float64(0))
    for batch in batches:
        pixels = tf.cast(batch, tf.float32) / 255.0
        if scores is None:
            bounds = dict(signatures["elbo"](images=pixels))
        else:
            of_batch = scores.take(np.arange(count, count + len(pixels)))
            bounds = {name: getattr(of_batch, name) for name in TERMS}
        bounds |= signatures["iwae"](images=pixels, k=tf.constant(k))
        for name in sums:
            sums[name] += np.sum(bounds[name], dtype=np.float64)
        loc = signatures["encode"](images=pixels)["loc"].numpy()
        count += len(loc)
        loc_sum = loc_sum + loc.sum(axis=0, dtype=np.float64)
        loc_squares = loc_squares + np.sum(np.square(loc, dtype=np.float64), axis=0)
        variance = loc_squares / count - (loc_sum / count) ** 2
        so_far = Measurements(
            images=count,
            **{name: float(total / count) for name, total in sums.items()},
            k=k,
            active_dimensions=int(np.sum(variance > _ACTIVE)),
            latent_size=loc.shape[1],
        )
        yield so_far, loc

"""What a SavedModel says of images: its bounds on log p(x), and its active latents."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from model.errors import PipelineError
from model.training.progress import log_if_slow

Signatures = Mapping[str, Callable[..., Any]]

# Images a call: with a dense network on two cores as fast as any number from 32, and
# 1.3 times as fast as 512 or more, which fit no cache.
BATCH = 128

_ACTIVE = 0.01  # the variance that an active latent has more than


class SignatureError(PipelineError):
    """A SavedModel lacks signatures that are needed."""


class Measured(NamedTuple):
    """What was measured; the bounds are means in nats per image, higher is better."""

    images: int
    elbo: float
    reconstruction: float
    kl: float
    iwae: float
    k: int  # samples of z per image in `iwae`
    active_dimensions: int
    latent_size: int

    def active(self) -> str:
        """Returns in words how many latent dimensions are active."""
        return f"{self.active_dimensions} of {self.latent_size}"


class OfImages(NamedTuple):
    """What was measured of each image."""

    elbo: np.ndarray  # float64 [N], nats
    loc: np.ndarray  # float32 [N, Z]: `encode`'s


def load(model_dir: str, *names: str) -> Signatures:
    """Returns the signatures of what `model.export` exported.

    Args:
      model_dir: the SavedModel's folder.
      names: of those that are needed; of none, those that `measure` takes.

    Raises:
      SignatureError: they are not all there.
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


def measure(
    signatures: Signatures, batches: tf.data.Dataset, *, k: int
) -> Iterator[tuple[Measured, OfImages]]:
    """Yields, after each batch, what is measured of all images so far and of its own.

    A latent dimension is active if the variance over images of the posterior's mean is
    above 0.01. For that mean stands `loc` of the signature `encode`, which for an IAF
    posterior is z at zero noise.

    Args:
      signatures: the model's.
      batches: uint8 [B, 28, 28, 1] each, as the model takes them: 0 or 255 if it is
        of binary pixels.
      k: samples of z per image in the importance-weighted bound.

    Source: Burda et al. 2016, Importance Weighted Autoencoders, eq. 8 and section 5.2.
    """
    count, loc_sum, loc_squares = 0, np.float64(0), np.float64(0)
    sums = dict.fromkeys(("elbo", "reconstruction", "kl", "iwae"), np.float64(0))
    for batch in batches:
        pixels = tf.cast(batch, tf.float32) / 255.0
        bounds = {
            **signatures["elbo"](images=pixels),
            **signatures["iwae"](images=pixels, k=tf.constant(k)),
        }
        for name in sums:
            sums[name] += np.sum(bounds[name], dtype=np.float64)
        loc = signatures["encode"](images=pixels)["loc"].numpy()
        count += len(loc)
        loc_sum = loc_sum + loc.sum(axis=0, dtype=np.float64)
        loc_squares = loc_squares + np.sum(np.square(loc, dtype=np.float64), axis=0)
        variance = loc_squares / count - (loc_sum / count) ** 2
        so_far = Measured(
            images=count,
            **{name: float(total / count) for name, total in sums.items()},
            k=k,
            active_dimensions=int(np.sum(variance > _ACTIVE)),
            latent_size=loc.shape[1],
        )
        yield so_far, OfImages(bounds["elbo"].numpy().astype(np.float64), loc)

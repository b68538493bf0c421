"""Images of independent pixels: the model that any useful model must be better than.

Each pixel has a distribution of its own, fitted on the train split, and no pixel knows
another one. The log-likelihood of an image is the sum over its pixels, in nats, with
respect to the same measure as the model's ELBO, so that both can be compared:

- Binary pixels: a Bernoulli distribution each. Like the model's, its likelihood is a
  probability of the bits of the fixed binarization.
- Grey pixels or channels of 256 levels: a discretized logistic distribution each, whose
  likelihood is a probability of the level. The continuous Bernoulli's is a density on
  [0, 1] instead. A level's probability, spread evenly over one of 256 bins of [0, 1],
  is a density, too: 256 times the probability. Level k is in bin k, at k/255.

A continuous Bernoulli fitted to each pixel would be of the model's own family, but has
no maximum for a pixel that is always black: its density grows without bound.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from components.datasets.idx import SplitError
from model.examples import BITS, read_examples

LEVELS = 256
TRAIN = "train"  # the split on which the distributions are fitted

_READ = 1024  # number of images that are decoded at once
# The variance of a value that is uniform within its level. With it, a pixel that never
# changes has a scale above 0, and no level of another image has probability 0.
_VARIANCE_IN_LEVEL = 1 / 12


@dataclasses.dataclass(frozen=True)
class IndependentPixels:
    """A fitted distribution for each of the P pixels, or channels of pixels."""

    log_prob: np.ndarray  # float64 [P, 256]: of each level of each pixel, nats

    def log_likelihood(self, images: np.ndarray) -> np.ndarray:
        """Returns the log-likelihood of each image: float64 [B], nats.

        Args:
          images: uint8 [B, ...], P values each; 0 or 255 for binary pixels.
        """
        levels = images.reshape(len(images), -1)
        return self.log_prob[np.arange(len(self.log_prob)), levels].sum(axis=1)


def fit_bernoulli(batches: Iterable[np.ndarray]) -> IndependentPixels:
    """Fits a Bernoulli distribution to each pixel of binary images.

    The probability that a pixel is on is (on + 1) / (images + 2), the mean of its
    posterior distribution with a uniform prior, so that it is never 0 or 1.

    Args:
      batches: images, uint8 [B, ...], of 0 and 255.

    Raises:
      SplitError: there are no images.

    Source: Laplace's rule of succession.
    """
    moments = _compute_moments(batches)
    on = (moments.sums // (LEVELS - 1) + 1) / (moments.images + 2)
    log_prob = np.full([len(on), LEVELS], -np.inf)
    log_prob[:, 0], log_prob[:, -1] = np.log1p(-on), np.log(on)
    return IndependentPixels(log_prob)


def fit_discretized_logistic(
    batches: Iterable[np.ndarray], *, as_density: bool
) -> IndependentPixels:
    """Fits a discretized logistic distribution to each pixel of images of 256 levels.

    A level's probability is that of the logistic distribution between the level's two
    edges, half a level below and above it; the tails belong to levels 0 and 255. Mean
    and variance are those of the pixel's levels.

    Args:
      batches: images, uint8 [B, ...].
      as_density: whether the likelihood is a density on [0, 1] per pixel rather than
        the probability of a level.

    Raises:
      SplitError: there are no images.

    Source: Salimans et al. 2017, PixelCNN++, eq. 2; here with one component, and
    without a network.
    """
    moments = _compute_moments(batches)
    count, sums = moments.images, moments.sums
    variance = (count * moments.squares - sums**2) / count**2 + _VARIANCE_IN_LEVEL
    scale = np.sqrt(3.0 * variance)[:, np.newaxis] / np.pi  # variance is (pi s)^2 / 3
    inner_edges = np.arange(LEVELS - 1) + 0.5
    edges = (inner_edges - (sums / count)[:, np.newaxis]) / scale  # [P, 255]
    below, above = -np.logaddexp(0.0, -edges), -np.logaddexp(0.0, edges)
    # `below` is log F of the edges, `above` log(1 - F). The difference of two edges,
    # F(b) - F(a) = F(b) (1 - F(a)) (1 - exp(a - b)), does not cancel in the tails.
    inner = below[:, 1:] + above[:, :-1] + np.log(-np.expm1(-1.0 / scale))
    log_prob = np.concatenate([below[:, :1], inner, above[:, -1:]], axis=1)
    return IndependentPixels(log_prob + np.log(LEVELS) if as_density else log_prob)


def fit(files: Sequence[str], feature: str) -> IndependentPixels:
    """Fits the distributions whose likelihood is comparable with a model's ELBO.

    Args:
      files: patterns of the files of Transform's train split.
      feature: the feature that the model is trained on: BITS for a likelihood of binary
        pixels, PIXELS for a density of grey ones.

    Raises:
      SplitError: there are no images.
    """
    return fit_images(_read_images(files, feature), feature)


def fit_images(batches: Iterable[np.ndarray], feature: str) -> IndependentPixels:
    """Fits the distributions whose likelihood is comparable with a model's ELBO.

    Args:
      batches: images, uint8 [B, ...]; of 0 and 255 if the feature is BITS.
      feature: the feature that the model is trained on, as for `fit`.

    Raises:
      SplitError: there are no images.
    """
    if feature == BITS:
        return fit_bernoulli(batches)
    return fit_discretized_logistic(batches, as_density=True)


def measure(
    fitted: IndependentPixels, files: Sequence[str], *, feature: str
) -> np.ndarray:
    """Returns the log-likelihood of each image, in the order of the file names.

    Args:
      fitted: the result of `fit`.
      files: patterns of the files of one of Transform's splits.
      feature: the feature that `fitted` is for.

    Returns:
      float64 [N], nats.
    """
    return measure_images(fitted, _read_images(files, feature))


def measure_images(
    fitted: IndependentPixels, batches: Iterable[np.ndarray]
) -> np.ndarray:
    """Returns the log-likelihood of each image of all batches: float64 [N], nats.

    Args:
      fitted: the result of `fit_images`.
      batches: images, uint8 [B, ...].
    """
    parts = [fitted.log_likelihood(images) for images in batches]
    return np.concatenate(parts) if parts else np.zeros(0)


class _Moments(NamedTuple):
    """The sums over images from which means and variances are made; all are exact."""

    images: int
    sums: np.ndarray  # int64 [P]: of each pixel's levels
    squares: np.ndarray  # int64 [P]: of the levels' squares


def _compute_moments(batches: Iterable[np.ndarray]) -> _Moments:
    """Sums the levels of each pixel and their squares over the images of all batches.

    Raises:
      SplitError: there are no images.
    """
    count, sums, squares = 0, np.zeros(1, np.int64), np.zeros(1, np.int64)
    for batch in batches:
        levels = batch.reshape(len(batch), -1)
        count += len(levels)
        sums = sums + levels.sum(axis=0, dtype=np.int64)
        squares = squares + np.square(levels, dtype=np.int64).sum(axis=0)
    if not count:
        raise SplitError(
            f"the {TRAIN} split must have images, from which the distributions of the "
            "independent pixels are fitted, got none"
        )
    return _Moments(count, sums, squares)


def _read_images(files: Sequence[str], feature: str) -> Iterator[np.ndarray]:
    """Yields batches of the images that a model gets: uint8 [B, 28, 28, 1]."""
    batches = read_examples(files, feature, batch_size=_READ)
    for batch in batches.as_numpy_iterator():
        yield batch.images

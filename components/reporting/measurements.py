"""The report's images: the test split with scores and latents, digits to draw."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from components.datasets.idx import SplitError
from components.evaluation.estimate import SPLIT
from components.evaluation.measure import BATCH, Signatures
from components.evaluation.scores import Scores, match_baseline, match_examples
from model.errors import PipelineError
from model.examples import read_examples, read_labels

_SAMPLES = 96  # samples of the prior
_STEPS = 11  # images of a traversal, and of an interpolation
_REACH = 3.0  # standard deviations from a traversal's middle to each of its ends
_LATENTS = 8  # latents with a traversal
_WORST = 10  # images of the lowest ELBO


class MeasurementError(PipelineError):
    """A model's measurements can't be reported."""


class ScoredImages(NamedTuple):
    """The images of the test split, with each image's label, ELBOs and latents."""

    pixels: np.ndarray  # float32 [N, 28, 28, 1] in [0, 1], the candidate's input
    labels: np.ndarray  # int64 [N]
    elbo: np.ndarray  # the candidate's, float64 [N], nats
    baseline: np.ndarray | None  # the baseline's, float64 [N], nats
    loc: np.ndarray  # the posterior's means, float32 [N, Z]


class DigitImages(NamedTuple):
    """Images to draw, each float32 [..., 28, 28, 1] in [0, 1]."""

    labels: np.ndarray  # int [L], at most ten
    ten: np.ndarray  # [3, L, ...]: each label's first image; its mode; its mean
    samples: np.ndarray  # [S, ...]: modes for samples of the prior
    latents: np.ndarray  # int [T]: the most active latents, the most active first
    traversals: np.ndarray  # [T, _STEPS, ...]: means
    steps: np.ndarray  # [_STEPS]: of a traversal, in standard deviations
    interpolations: np.ndarray  # [P, _STEPS, ...]: means
    worst: np.ndarray  # int [W]: indices of the images of the lowest ELBO, lowest first
    worst_means: np.ndarray  # [W, ...]


def read_test_split(
    files: Sequence[str],
    feature: str,
    *,
    candidate: Scores,
    baseline: Scores | None,
    loc: np.ndarray,
) -> ScoredImages:
    """Reads the test split's images and puts their scores and latents beside them.

    Args:
      files: patterns of the files of Transform's test split.
      feature: the feature that the candidate is trained on, `bits` or `pixels`.
      candidate: the candidate's scores.
      baseline: the baseline's scores; None: there is no baseline.
      loc: the posterior's mean of each image that Bounds measured, [N, Z], in the order
        of the files.

    Raises:
      SplitError: the split has no images.
      ScoresError: the scores are not of the split's images.
      MeasurementError: the split and `loc` differ in their number of images.
    """
    parts = [
        (tf.cast(batch.images, tf.float32).numpy() / np.float32(255), batch.labels)
        for batch in read_examples(files, feature, batch_size=BATCH)
    ]
    if not parts:
        raise SplitError(
            f"the {SPLIT} split must have images, {', '.join(files)} has none"
        )
    pixels, labels = map(np.concatenate, zip(*parts))
    if len(labels) != len(loc):
        raise MeasurementError(
            f"the {SPLIT} split must have the {len(loc):,} images that Bounds "
            f"measured, got {len(labels):,}"
        )
    ordered = match_examples(candidate, labels)
    return ScoredImages(
        pixels=pixels,
        labels=labels,
        elbo=ordered.elbo,
        baseline=None if baseline is None else match_baseline(ordered, baseline).elbo,
        loc=loc,
    )


def count_labels(files: Sequence[str]) -> dict[int, int]:
    """Counts the examples of each label in Ingest's files.

    Args:
      files: patterns of the files of one split.
    """
    found, counts = np.unique(read_labels(files), return_counts=True)
    return {int(label): int(count) for label, count in zip(found, counts)}


def generate_digits(test: ScoredImages, candidate: Signatures) -> DigitImages:
    """Generates the images for the report's figures with the candidate.

    Args:
      test: the test split with its scores.
      candidate: the candidate's signatures.

    Raises:
      MeasurementError: a posterior mean is not a finite number.
      tf.errors.OpError: a signature failed.
    """
    if not np.isfinite(test.loc).all():
        raise MeasurementError("the posterior's means must be finite numbers")
    _, first = np.unique(test.labels, return_index=True)
    first = first[:10]
    rebuilt = candidate["serving_default"](images=tf.constant(test.pixels[first]))
    ten = np.stack([test.pixels[first], rebuilt["mode"], rebuilt["mean"]])
    samples = candidate["generate"](
        n=tf.constant(_SAMPLES), seed=tf.constant(0, tf.int64)
    )
    spread = test.loc.std(axis=0)
    latents = np.argsort(-spread)[:_LATENTS]
    steps = np.linspace(-_REACH, _REACH, _STEPS, dtype=np.float32)
    walks = np.tile(test.loc[first[0]], [len(latents), _STEPS, 1])
    for walk, latent in zip(walks, latents):
        walk[:, latent] = test.loc[:, latent].mean() + steps * spread[latent]
    ends = first[: len(first) // 2 * 2].reshape(-1, 2)  # pairs of two labels
    part = np.linspace(0, 1, _STEPS, dtype=np.float32)[:, np.newaxis]
    paths = np.stack(
        [
            (1 - part) * test.loc[one] + part * test.loc[other]
            for one, other in (ends if len(ends) else [(first[0], first[0])])
        ]
    )
    # Images whose ELBO is NaN come first.
    worst = np.argsort(np.where(np.isnan(test.elbo), -np.inf, test.elbo))[:_WORST]
    of_worst = candidate["serving_default"](images=tf.constant(test.pixels[worst]))
    return DigitImages(
        labels=test.labels[first],
        ten=ten,
        samples=samples["mode"].numpy(),
        latents=latents,
        traversals=_decode_means(candidate, walks),
        steps=steps,
        interpolations=_decode_means(candidate, paths),
        worst=worst,
        worst_means=of_worst["mean"].numpy(),
    )


def _decode_means(candidate: Signatures, z: np.ndarray) -> np.ndarray:
    """Returns the means of p(x|z), [A, B, 28, 28, 1], for z, [A, B, Z]."""
    flat = tf.constant(z.reshape(-1, z.shape[-1]))
    mean = candidate["decode"](z=flat)["mean"].numpy()
    return mean.reshape(*z.shape[:2], *mean.shape[1:])


def compute_principal_plane(loc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the first two principal components of posterior means.

    Args:
      loc: the posterior means, [N, Z], finite.

    Returns:
      The coordinates along both components, [N, 2], of which the second are 0 if Z is
      1; and each component's share of the variance, [2].
    """
    centered = np.float64(loc) - loc.mean(axis=0)
    # The eigenvectors of the Z x Z covariance are the components; an SVD of all N rows
    # would give the same ones, slower.
    variances, directions = np.linalg.eigh(centered.T @ centered)
    order = np.argsort(-variances)[:2]
    plane, shares = np.zeros([len(loc), 2]), np.zeros(2)
    plane[:, : len(order)] = centered @ directions[:, order]
    total = variances.sum()
    shares[: len(order)] = variances[order] / total if total > 0 else 0.0
    return plane, shares

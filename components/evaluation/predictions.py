"""The predictions that the Evaluator's TFMA reads: the scores of both models, joined.

TFMA calls no model. Each example has the scores of one image as features, and its
log-likelihood under independent pixels.
"""

import os

import numpy as np

from components.evaluation.estimate import SPLIT
from components.evaluation.scores import (
    TERMS,
    Scores,
    ScoresError,
    match_baseline,
    write_columns,
)

CANDIDATE, BASELINE = "candidate", "baseline"
DIFFERENCE = "difference"  # of an image's ELBOs, candidate - baseline
INDEPENDENT_PIXELS = "independent_pixels"  # an image's log-likelihood, nats
ABOVE_INDEPENDENT_PIXELS = "above_independent_pixels"  # the candidate's ELBO - it
LABEL = "label"

_FILE = "predictions-00000-of-00001.gz"


def name_features(model: str) -> dict[str, str]:
    """Returns the feature that holds each term of a model.

    Args:
      model: CANDIDATE or BASELINE.
    """
    return {term: f"{model}_{term}" for term in TERMS}


def _describe_range(images: np.ndarray) -> str:
    """Returns the lowest and the highest number of images, such as `0 to 9,999`."""
    return f"{images.min():,} to {images.max():,}" if len(images) else "with no number"


def write_predictions(
    folder: str,
    candidate: Scores,
    *,
    baseline: Scores | None,
    independent_pixels: np.ndarray,
) -> None:
    """Writes the scores of each image as a tf.Example to a gzipped TFRecord file.

    Args:
      folder: the folder or URI of the split's folder, which is created.
      candidate: the candidate's scores.
      baseline: the baseline's scores; None: there is no baseline.
      independent_pixels: the log-likelihood of each image of the test split under
        independent pixels, by the image's number: float64 [N], nats.

    Raises:
      ScoresError: the two models' scores are not of the same images with the same
        labels, or not of the test split's images.
    """
    count = len(independent_pixels)
    if not np.array_equal(np.sort(candidate.images), np.arange(count)):
        raise ScoresError(
            f"the candidate's scores must be of the {count:,} images of the {SPLIT} "
            f"split, once each, got {len(candidate.images):,} scores of images "
            f"{_describe_range(candidate.images)}: run the step CandidateScores again"
        )
    log_likelihood = independent_pixels[candidate.images]
    columns = {
        feature: getattr(candidate, term)
        for term, feature in name_features(CANDIDATE).items()
    }
    columns[INDEPENDENT_PIXELS] = log_likelihood
    columns[ABOVE_INDEPENDENT_PIXELS] = candidate.elbo - log_likelihood
    if baseline is not None:
        matched = match_baseline(candidate, baseline)
        columns |= {
            feature: getattr(matched, term)
            for term, feature in name_features(BASELINE).items()
        }
        with np.errstate(invalid="ignore"):  # infinity - infinity is NaN
            columns[DIFFERENCE] = candidate.elbo - matched.elbo
    write_columns(
        os.path.join(folder, f"Split-{SPLIT}", _FILE),
        integers={LABEL: candidate.labels},
        floats=columns,
    )

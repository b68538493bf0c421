"""The Bounds step: measures a model's importance-weighted bound and active latents.

The report shows both beside the ELBO. They do not affect the gate decision, which
depends on the Evaluator's ELBO.
"""

import json
import os
import pathlib

import numpy as np
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from components.datasets.idx import SplitError
from components.evaluation.estimate import SPLIT
from components.evaluation.measure import (
    BATCH,
    Measurements,
    load_signatures,
    measure_batches,
)
from components.evaluation.scores import match_examples
from components.model_scores import require_scores
from model.examples import read_examples, read_labels
from model.training import progress

_FILE, _LATENTS = "bounds.json", "latents.npy"


@component
def Bounds(  # noqa: N802, a component
    model: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    scores: InputArtifact[standard_artifacts.Examples],
    bounds: OutputArtifact[standard_artifacts.ModelEvaluation],
    feature: Parameter[str],
    samples: Parameter[int],
) -> None:
    """Measures the candidate's bounds and active latents; writes them to files.

    They are measured on the test split. The ELBO beside them is the mean of the scores
    that CandidateScores measured. A bound that is NaN or infinite is written too
    and does not fail the step.

    Args:
      model: the candidate.
      examples: Transform's examples.
      scores: CandidateScores' output.
      bounds: the artifact whose folder gets the means over the split, which
        `read_bounds` reads, and each image's latents, which `read_latents` reads.
      feature: the feature that the model is trained on: `bits` for a likelihood of
        binary pixels, else `pixels`.
      samples: k, the samples of z per image in the importance-weighted bound.

    Raises:
      SplitError: the test split has no images.
      ScoresError: the scores are missing, or are not of the test split's images.
    """
    files = os.path.join(artifact_utils.get_split_uri([examples], SPLIT), "*")
    labels = read_labels([files])
    if not len(labels):
        raise SplitError(f"the {SPLIT} split must have images, {files} has none")
    scored = match_examples(require_scores(scores), labels)
    examples_of_split = read_examples([files], feature, batch_size=BATCH)
    batches = examples_of_split.map(lambda batch: batch.images)
    model_dir = path_utils.serving_model_dir(model.uri)
    signatures = load_signatures(model_dir, "iwae", "encode")
    parts = []
    rate = progress.ImageRate(len(labels))
    for measured, loc in measure_batches(signatures, batches, k=samples, scores=scored):
        parts.append(loc)
        bound = f"importance-weighted bound (k = {samples}) {measured.iwae:.2f} nats"
        rate.log(measured.images, bound)
    text = json.dumps(measured._asdict(), indent=2)
    pathlib.Path(bounds.uri, _FILE).write_text(text, encoding="utf-8")
    np.save(pathlib.Path(bounds.uri, _LATENTS), np.concatenate(parts))


def read_bounds(uri: str) -> Measurements:
    """Reads the bounds and active latents that Bounds measured on the test split."""
    return Measurements(
        **json.loads(pathlib.Path(uri, _FILE).read_text(encoding="utf-8"))
    )


def read_latents(uri: str) -> np.ndarray:
    """Reads each image's posterior mean from the output folder of Bounds.

    Returns:
      float32 [N, Z], in the order of the test split's files.
    """
    return np.load(pathlib.Path(uri, _LATENTS))

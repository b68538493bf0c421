"""The Bounds step: measures a model's importance-weighted bound and active latents.

The report shows both beside the ELBO. They do not affect the gate decision, which
depends on the Evaluator's ELBO.
"""

import json
import os
import pathlib
import time

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
    PerImage,
    load_signatures,
    measure_batches,
)
from model.examples import count_examples, read_examples
from model.training import progress

_FILE, _PER_IMAGE = "bounds.json", "images.npz"
_REPORT_EVERY = 10.0  # seconds between two progress lines


@component
def Bounds(  # noqa: N802, a component
    model: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    bounds: OutputArtifact[standard_artifacts.ModelEvaluation],
    feature: Parameter[str],
    samples: Parameter[int],
) -> None:
    """Measures the candidate's bounds and active latents; writes them to files.

    They are measured on the test split. A bound that is NaN or infinite is written too
    and does not fail the step.

    Args:
      model: the candidate.
      examples: Transform's examples.
      bounds: the artifact whose folder gets the means over the split, which
        `read_bounds` reads, and the values of each image, which `read_per_image` reads.
      feature: the feature that the model is trained on: `bits` for a likelihood of
        binary pixels, else `pixels`.
      samples: k, the samples of z per image in the importance-weighted bound.

    Raises:
      SplitError: the test split has no images.
    """
    files = os.path.join(artifact_utils.get_split_uri([examples], SPLIT), "*")
    examples_of_split = read_examples([files], feature, batch_size=BATCH)
    batches = examples_of_split.map(lambda batch: batch.images)
    signatures = load_signatures(path_utils.serving_model_dir(model.uri))
    measured, parts = None, []
    rate = progress.ImageRate(count_examples([files]))
    reported = time.monotonic()
    for measured, part in measure_batches(signatures, batches, k=samples):
        parts.append(part)
        done, *pace = rate.describe(measured.images)
        if time.monotonic() - reported >= _REPORT_EVERY:
            reported = time.monotonic()
            bound = (
                f"importance-weighted bound (k = {samples}) {measured.iwae:.2f} nats"
            )
            progress.logger.info("%s", "  ".join([done, bound, *pace]))
    if measured is None:
        raise SplitError(f"the {SPLIT} split must have images, {files} has none")
    text = json.dumps(measured._asdict(), indent=2)
    pathlib.Path(bounds.uri, _FILE).write_text(text, encoding="utf-8")
    per_image = PerImage(*map(np.concatenate, zip(*parts)))
    np.savez(pathlib.Path(bounds.uri, _PER_IMAGE), **per_image._asdict())


def read_bounds(uri: str) -> Measurements:
    """Reads the bounds and active latents that Bounds measured on the test split."""
    return Measurements(
        **json.loads(pathlib.Path(uri, _FILE).read_text(encoding="utf-8"))
    )


def read_per_image(uri: str) -> PerImage:
    """Reads each test image's ELBO and latents from the output folder of Bounds.

    The images are in the order of the test split's files.
    """
    with np.load(pathlib.Path(uri, _PER_IMAGE)) as arrays:
        return PerImage(**arrays)

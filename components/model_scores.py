"""The ModelScores step: scores a model on the test split, once for all later steps.

The graph has two of them: BaselineScores, before the training, and CandidateScores.
"""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from components import served_model
from components.datasets.idx import SplitError
from components.evaluation import old_exports
from components.evaluation.estimate import SPLIT
from components.evaluation.measure import (
    BATCH,
    SignatureError,
    Signatures,
    load_signatures,
)
from components.evaluation.scores import TERMS, Scores, ScoresError
from model.examples import PIXELS, count_examples, read_examples
from model.training import progress

# A property of the output: the number of scored images; absent: there is no model.
IMAGES_PROPERTY = "images"

_SIGNATURE = "elbo_examples"


@component
def ModelScores(  # noqa: N802, a component
    model: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    scores: OutputArtifact[standard_artifacts.Examples],
) -> None:
    """Scores each image of the test split with the model's own `elbo_examples`.

    The draws of z are fixed for each image, so that models are compared with the same
    noise. A score that is NaN or infinite is written too and does not fail the step.

    Args:
      model: the candidate, or ServedModel's output; if that has no version, `scores`
        stays empty.
      examples: Transform's examples.
      scores: the artifact whose folder gets the scores, which `read_scores` reads.

    Raises:
      SplitError: the test split has no images.
      SignatureError: the model lacks the signature, or an output of it.
    """
    describe_as_test_split(scores)
    if served_model.has_no_version(model):
        return
    files = os.path.join(artifact_utils.get_split_uri([examples], SPLIT), "*")
    signatures = load_signatures(path_utils.serving_model_dir(model.uri), _SIGNATURE)
    scored = score_images(signatures, [files])
    scored.write(scores.uri)
    scores.set_int_custom_property(IMAGES_PROPERTY, len(scored.images))


def describe_as_test_split(examples: standard_artifacts.Examples) -> None:
    """Sets the properties of an artifact of tf.Examples that has the test split."""
    examples.split_names = artifact_utils.encode_split_names([SPLIT])
    examples_utils.set_payload_format(
        examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
    )


def read_scores(scores: standard_artifacts.Examples) -> Scores | None:
    """Reads the output of ModelScores; returns None if there was no model to score.

    Args:
      scores: the output `scores`.

    Raises:
      ScoresError: the scores are missing although there was a model.
    """
    if not scores.has_custom_property(IMAGES_PROPERTY):
        return None
    return Scores.read(scores.uri)


def require_scores(scores: standard_artifacts.Examples) -> Scores:
    """Reads the output of CandidateScores, which always has a model to score.

    Args:
      scores: the output `scores`.

    Raises:
      ScoresError: there was no model, or the scores are missing.
    """
    found = read_scores(scores)
    if found is None:
        raise ScoresError(
            "the candidate must have scores, CandidateScores found no model: run the "
            "Trainer again"
        )
    return found


def score_images(signatures: Signatures, files: Sequence[str]) -> Scores:
    """Calls a model's signature `elbo_examples` on all images of the files.

    Args:
      signatures: the model's signatures. An export of an older release gets the
        examples in its own format.
      files: patterns of the files of Transform's test split.

    Raises:
      SplitError: the files have no images.
      SignatureError: the signature does not return the three terms of each image.
    """
    with progress.log_if_slow("reading an example with the model"):
        is_old = old_exports.needs_old_examples(signatures)
    rate = progress.ImageRate(count_examples(files))
    labels: list[np.ndarray] = []
    terms: dict[str, list[np.ndarray]] = {name: [] for name in TERMS}
    count, total = 0, 0.0
    for batch in read_examples(files, PIXELS, batch_size=BATCH):
        examples = batch.serialized
        if is_old:
            examples = tf.constant(
                [old_exports.to_old_example(one) for one in examples.numpy()]
            )
        outputs = signatures[_SIGNATURE](examples=examples)
        labels.append(batch.labels.numpy())
        for name in TERMS:
            terms[name].append(_get_term(outputs, name, images=len(labels[-1])))
        count += len(labels[-1])
        total += float(np.sum(terms["elbo"][-1]))
        rate.log(count, f"ELBO {total / count:.2f} nats")
    if not count:
        raise SplitError(
            f"the {SPLIT} split must have images, {', '.join(files)} has none"
        )
    return Scores(
        images=np.arange(count),
        labels=np.concatenate(labels),
        **{name: np.concatenate(parts) for name, parts in terms.items()},
    )


def _get_term(outputs, name: str, *, images: int) -> np.ndarray:
    """Returns one output of `elbo_examples`, float64 [B], after a check of its shape.

    Args:
      outputs: the signature's outputs by name.
      name: the output's name.
      images: B, the number of images in the batch.
    """
    if name not in outputs or outputs[name].shape != (images,):
        got = {key: tuple(outputs[key].shape) for key in sorted(outputs)}
        raise SignatureError(
            f"the signature {_SIGNATURE} must return {', '.join(TERMS)} of shape "
            f"({images},) for {images} images, got {got}: train the model anew"
        )
    return outputs[name].numpy().astype(np.float64)

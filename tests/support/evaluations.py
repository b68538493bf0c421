"""Runs of the Evaluator on scores that a test makes."""

import pathlib

import numpy as np
from tfx.types import artifact_utils, channel_utils, standard_artifacts
from tfx.utils import path_utils

from components.evaluation.gate_result import Thresholds
from components.evaluator import Evaluator, EvaluatorInputs, make_eval_config
from model.examples import BITS, PIXELS
from tests.support import transformed


def write_scores(folder, scores):
    """Returns ModelScores' output with these scores; None: as it is without a model."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    folder.mkdir(parents=True)
    if scores is not None:
        scores.write(artifact.uri)
        artifact.set_int_custom_property("images", len(scores.images))
    return artifact


def write_examples(folder, train, test):
    """Returns Transform's output with these images as pixels and as bits.

    Args:
      folder: the folder of the output.
      train: the train split's images, [N, 784] of 0 and 1.
      test: the test split's images.
    """
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(["train", "test"])
    for split, bits in {"train": train, "test": test}.items():
        (folder / f"Split-{split}").mkdir(parents=True)
        transformed.write(folder / f"Split-{split}" / "examples.gz", bits, bits)
    return artifact


def make_served(folder, exists):
    """Returns ServedModel's output, whose files nobody reads."""
    artifact = standard_artifacts.Model()
    artifact.uri = str(folder)
    pathlib.Path(path_utils.serving_model_dir(artifact.uri)).mkdir(parents=True)
    if not exists:
        artifact.uri = str(folder / "none")
    return artifact


def make_empty_examples(folder: pathlib.Path) -> standard_artifacts.Examples:
    """Returns Transform's output, whose test split has a file without examples."""
    examples = standard_artifacts.Examples()
    examples.uri = str(folder)
    examples.split_names = artifact_utils.encode_split_names(["test"])
    (folder / "Split-test").mkdir(parents=True)
    transformed.write(folder / "Split-test" / "empty.gz", [], [])
    return examples


def evaluate(
    folder,
    candidate,
    baseline,
    *,
    model=None,
    served=None,
    examples=None,
    binary=True,
    **thresholds,
):
    """Runs the Evaluator; returns its outputs.

    Args:
      folder: the folder of the inputs and outputs.
      candidate: the candidate's scores; None: there are none.
      baseline: the baseline's scores; None: there is no baseline.
      model: the candidate's artifact.
      served: ServedModel's output; None: one that agrees with `baseline`.
      examples: Transform's output; None: one with as many white images as scores.
      binary: as in `make_eval_config`.
      thresholds: attributes of `Thresholds`; those of the settings by default.
    """
    if served is None:
        served = make_served(folder / "served", exists=baseline is not None)
    if examples is None:
        count = 0 if candidate is None else len(candidate.images)
        white = np.ones([max(count, 1), 784], int)
        examples = write_examples(folder / "examples", white, white[:count])
    inputs = {
        "candidate_scores": [write_scores(folder / "candidate_scores", candidate)],
        "baseline_scores": [write_scores(folder / "baseline_scores", baseline)],
        "examples": [examples],
        "model": [model or make_served(folder / "model", exists=True)],
        "baseline_model": [served],
    }
    component = Evaluator(
        EvaluatorInputs(
            **{key: channel_utils.as_channel(value) for key, value in inputs.items()}
        ),
        eval_config=make_eval_config(
            Thresholds(**{"confidence": 0.95, "class_tolerance": None, **thresholds}),
            binary=binary,
        ),
        feature=BITS if binary else PIXELS,
    )
    outputs = {key: channel.type() for key, channel in component.outputs.items()}
    for key, artifact in outputs.items():
        artifact.uri = str(folder / key)
    component.executor_spec.executor_class().Do(
        inputs, {key: [out] for key, out in outputs.items()}, component.exec_properties
    )
    return outputs

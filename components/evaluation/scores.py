"""The scores of a model: the ELBO and its terms of each image of the test split.

Each model is scored once. The gate, the bounds and the report read its scores.
"""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from components.evaluation.estimate import SPLIT
from model.errors import PipelineError

_FILE = "scores-00000-of-00001.gz"
_READ = 10_000  # examples that are parsed at once

_NUMBERS = {"image": "images", "label": "labels"}  # feature -> attribute
TERMS = ("elbo", "reconstruction", "kl")  # features and attributes


class ScoresError(PipelineError):
    """The scores of a model are missing, or are not of the expected images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """The ELBO and its terms of each image, in nats; they may be NaN or infinite."""

    images: np.ndarray  # int64 [N], from 0: numbers in the order of the split's files
    labels: np.ndarray  # int64 [N]
    elbo: np.ndarray  # float64 [N]
    reconstruction: np.ndarray  # float64 [N]
    kl: np.ndarray  # float64 [N]

    @classmethod
    def read(cls, folder: str) -> "Scores":
        """Reads the scores that `write` wrote.

        Args:
          folder: the folder or URI that was written to.

        Raises:
          ScoresError: the folder has no scores.
        """
        path = _find_file(folder)
        if not tf.io.gfile.exists(path):
            raise ScoresError(
                f"the scores of a model must be in {path}, which does not exist: run "
                "the step that writes them again"
            )
        spec = {
            **{name: tf.io.FixedLenFeature([], tf.int64) for name in _NUMBERS},
            **{name: tf.io.FixedLenFeature([], tf.float32) for name in TERMS},
        }
        records = tf.data.TFRecordDataset(path, compression_type="GZIP")
        batches = records.batch(_READ).map(lambda some: tf.io.parse_example(some, spec))
        parts = list(batches.as_numpy_iterator())

        def join(name: str, dtype: type) -> np.ndarray:
            values = [part[name].astype(dtype) for part in parts]
            return np.concatenate(values) if values else np.zeros(0, dtype)

        return cls(
            **{key: join(name, np.int64) for name, key in _NUMBERS.items()},
            **{name: join(name, np.float64) for name in TERMS},
        )

    def write(self, folder: str) -> None:
        """Writes the scores as tf.Examples to a gzipped TFRecord file.

        The terms are written as float32, which is what models compute.

        Args:
          folder: the folder or URI of the split's folder, which is created.
        """
        write_columns(
            _find_file(folder),
            integers={name: getattr(self, key) for name, key in _NUMBERS.items()},
            floats={name: getattr(self, name) for name in TERMS},
        )

    def take(self, rows: np.ndarray) -> "Scores":
        """Returns the scores of some rows, in their order.

        Args:
          rows: int [M], positions in the arrays.
        """
        return Scores(
            **{
                field.name: getattr(self, field.name)[rows]
                for field in dataclasses.fields(self)
            }
        )


def write_columns(
    path: str, *, integers: Mapping[str, np.ndarray], floats: Mapping[str, np.ndarray]
) -> None:
    """Writes a tf.Example for each row of some columns to a gzipped TFRecord file.

    Args:
      path: path or URI of the file; its folder is created.
      integers: int64 [N] columns by the name of their feature.
      floats: the same of float64 [N]; they are written as float32.
    """
    tf.io.gfile.makedirs(os.path.dirname(path))
    numbers = [column.tolist() for column in integers.values()]
    values = [column.tolist() for column in floats.values()]
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for row in zip(*numbers, *values):
            example = tf.train.Example()
            feature = example.features.feature
            for name, number in zip(integers, row):
                feature[name].int64_list.value.append(number)
            for name, value in zip(floats, row[len(numbers) :]):
                feature[name].float_list.value.append(value)
            writer.write(example.SerializeToString())


def match_examples(scores: Scores, labels: np.ndarray) -> Scores:
    """Returns a model's scores in the order of the test split's examples.

    Args:
      scores: the scores, in any order.
      labels: the label of each example, int [N], in the order of the split's files.

    Raises:
      ScoresError: the scores are not of these examples.
    """
    ordered = scores.take(np.argsort(scores.images, kind="stable"))
    advice = "run the steps BaselineScores and CandidateScores again"
    if not np.array_equal(ordered.images, np.arange(len(labels))):
        raise ScoresError(
            f"the scores must be of the {len(labels):,} images of the {SPLIT} split, "
            f"got {len(ordered.images):,} images: {advice}"
        )
    if not np.array_equal(ordered.labels, labels):
        first = np.flatnonzero(ordered.labels != labels)[0]
        raise ScoresError(
            f"image {first} of the {SPLIT} split must have the same label in the "
            f"scores, got {ordered.labels[first]} in place of {labels[first]}: {advice}"
        )
    return ordered


def match_baseline(candidate: Scores, baseline: Scores) -> Scores:
    """Returns the baseline's scores in the order of the candidate's images.

    Args:
      candidate: the candidate's scores.
      baseline: the baseline's scores of the same images, in any order.

    Raises:
      ScoresError: the two are not of the same images with the same labels.
    """
    order, baseline_order = (
        np.argsort(scores.images, kind="stable") for scores in (candidate, baseline)
    )
    ordered = baseline.take(baseline_order)
    expected = candidate.take(order)
    advice = "run the steps BaselineScores and CandidateScores again"
    if len(ordered.images) != len(expected.images):
        raise ScoresError(
            f"the baseline must have scores of the candidate's {len(order):,} images, "
            f"it has {len(baseline_order):,}: {advice}"
        )
    if not np.array_equal(ordered.images, expected.images):
        first = np.flatnonzero(ordered.images != expected.images)[0]
        raise ScoresError(
            "the baseline and the candidate must have scores of the same images, got "
            f"number {ordered.images[first]} of the baseline and number "
            f"{expected.images[first]} of the candidate: {advice}"
        )
    if not np.array_equal(ordered.labels, expected.labels):
        first = np.flatnonzero(ordered.labels != expected.labels)[0]
        raise ScoresError(
            f"image {ordered.images[first]} must have the same label in the scores of "
            f"both models, got {ordered.labels[first]} in the baseline's and "
            f"{expected.labels[first]} in the candidate's: {advice}"
        )
    rows = np.empty(len(order), np.int64)
    rows[order] = baseline_order
    return baseline.take(rows)


def _find_file(folder: str) -> str:
    return os.path.join(folder, f"Split-{SPLIT}", _FILE)

"""The DataGate step: stops the run when the data have anomalies or have drifted.

ExampleValidator only records anomalies; it never stops a run.
"""

import json
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from components import served_model
from components.evaluation import drift
from components.evaluation.estimate import SPLIT
from model.errors import PipelineError
from model.examples import RAW, read_examples

logger = logging.getLogger(__name__)

# Files in the folder of the output `report`: the distances, and the train split's
# statistics, which the Pusher publishes together with the model.
DISTANCES = "drift.json"
STATISTICS = "statistics.pb"

# The path of the statistics in a version. TensorFlow and TF Serving ignore the folder
# assets.extra.
SERVED_STATISTICS = f"assets.extra/{STATISTICS}"

_BATCH = 1_000  # images that are read at a time


class DataAnomalyError(PipelineError):
    """The data have anomalies: they do not match the schema."""


class DriftError(PipelineError):
    """A distance is above its threshold in the schema.

    The distance is between the data and the served model's data (drift), or between the
    train and the test split (skew).
    """


def describe_anomalies(split: str, anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """Returns a description of each anomaly of a split.

    Args:
      split: the split's name, which begins each description.
      anomalies: what ExampleValidator found in the split.
    """
    lines = [
        f"{split}: feature '{feature}': {info.description}"
        for feature, info in sorted(anomalies.anomaly_info.items())
    ]
    if anomalies.HasField("dataset_anomaly_info"):
        lines.append(f"{split}: {anomalies.dataset_anomaly_info.description}")
    if anomalies.data_missing:
        lines.append(f"{split}: no examples")
    return lines


@component
def DataGate(  # noqa: N802, a component
    anomalies: InputArtifact[standard_artifacts.ExampleAnomalies],
    examples: InputArtifact[standard_artifacts.Examples],
    schema: InputArtifact[standard_artifacts.Schema],
    baseline: InputArtifact[standard_artifacts.Model],
    report: OutputArtifact[standard_artifacts.ExampleStatistics],
    accept_drift: Parameter[int],
) -> None:
    """Checks the data for anomalies, drift and skew; raises to stop the run.

    Drift is the distance of the train split from the data that the served model was
    trained on. Skew is the distance of the train split from the test split.

    Args:
      anomalies: ExampleValidator's anomalies of every split.
      examples: Ingest's examples.
      schema: the reviewed schema, whose comparators hold the thresholds.
      baseline: ServedModel's output, with the statistics of the baseline's train split.
      report: the artifact whose folder gets the train split's statistics and a JSON
        file of every distance.
      accept_drift: 1 to only log drift above its threshold, else 0.

    Raises:
      DataAnomalyError: there are anomalies; the message lists all of them.
      DriftError: distances are above their thresholds; the message lists all of them.
    """
    lines = []
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        path = os.path.join(anomalies.uri, f"Split-{split}", DEFAULT_FILE_NAME)
        with fileio.open(path, "rb") as file:
            proto = anomalies_pb2.Anomalies.FromString(file.read())
        lines += describe_anomalies(split, proto)
    if lines:
        raise DataAnomalyError(
            "the data are not what pipeline/schema.pbtxt says: " + "; ".join(lines)
        )
    train, test = (
        drift.compute_statistics(
            _read_batches(artifact_utils.get_split_uri([examples], split))
        )
        for split in ("train", SPLIT)
    )
    pathlib.Path(report.uri, STATISTICS).write_bytes(
        train.SerializeToString(deterministic=True)
    )
    version, baseline_statistics, unchecked = _read_baseline_statistics(baseline)
    if baseline_statistics is not None and (
        few := _name_small_data({"train": train, "its data": baseline_statistics})
    ):
        baseline_statistics = None
        unchecked.append(f"no check of drift: {few}")
    if few := _name_small_data({"train": train, SPLIT: test}):
        unchecked.append(f"no check of skew: {few}")
    reviewed = tfdv.load_schema_text(os.path.join(schema.uri, "schema.pbtxt"))
    if baseline_statistics is not None and (
        missing := drift.list_missing_features(reviewed, baseline_statistics)
    ):
        unchecked.append(
            f"no check of drift of {', '.join(missing)}: version {version} came with "
            "statistics of an older release"
        )
    measured = drift.measure_distances(
        reviewed, train, test=None if few else test, baseline=baseline_statistics
    )
    details = {
        "baseline_version": version,
        "features": [each._asdict() for each in measured],
        "unchecked": unchecked,
        "accepted": bool(accept_drift),
    }
    pathlib.Path(report.uri, DISTANCES).write_text(
        json.dumps(details, indent=2), encoding="utf-8"
    )
    _raise_if_too_far(measured, version, accept_drift=bool(accept_drift))


def _raise_if_too_far(
    measured: list[drift.Distance], version: int | None, *, accept_drift: bool
) -> None:
    far = {
        kind: "; ".join(str(d) for d in measured if d.kind == kind and d.is_too_far)
        for kind in (drift.DRIFT, drift.SKEW)
    }
    messages = []
    if far[drift.DRIFT]:
        text = (
            f"the train split is not like what version {version} was trained on: "
            f"{far[drift.DRIFT]}"
        )
        if accept_drift:
            logger.warning("accepted: %s", text)
        else:
            messages.append(
                f"{text}; if that is wanted, accept it once with "
                "--set data.accept_drift=true"
            )
    if far[drift.SKEW]:
        messages.append(f"train is not like the gate's {SPLIT}: {far[drift.SKEW]}")
    if messages:
        raise DriftError(
            ". And ".join(messages)
            + ". Look at the data, or review the thresholds in pipeline/schema.pbtxt"
        )


def read_report(uri: str) -> dict[str, Any]:
    """Returns the content of drift.json, the distances that DataGate measured."""
    return json.loads(pathlib.Path(uri, DISTANCES).read_text(encoding="utf-8"))


def _read_baseline_statistics(
    baseline: standard_artifacts.Model,
) -> tuple[int | None, drift.Statistics | None, list[str]]:
    """Returns the baseline's version, its statistics and why drift is not checked.

    Args:
      baseline: ServedModel's output.

    Returns:
      The version, None without a baseline; the statistics of the data that the version
      was trained on, None if they are missing; a list with the reason why they are
      missing, else an empty list.
    """
    if served_model.has_no_version(baseline):
        why = f"no check of drift: {served_model.explain_no_version(baseline)}"
        return None, None, [why]
    version = baseline.get_int_custom_property(served_model.VERSION_PROPERTY)
    folder = path_utils.serving_model_dir(baseline.uri)
    path = pathlib.Path(folder, SERVED_STATISTICS)
    if not path.exists():
        why = f"no check of drift: version {version} came without statistics"
        return version, None, [why]
    return version, drift.Statistics.FromString(path.read_bytes()), []


def _name_small_data(found: dict[str, drift.Statistics]) -> str:
    """Returns a text that names the data of fewer than MIN_IMAGES images, or "".

    Args:
      found: statistics by the name of their data.
    """
    counts = {
        name: drift.count_images(statistics) for name, statistics in found.items()
    }
    return " and ".join(
        f"{name} has {count} images, fewer than {drift.MIN_IMAGES}"
        for name, count in counts.items()
        if count < drift.MIN_IMAGES
    )


def _read_batches(folder: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of a split of Ingest's examples: images and labels.

    Args:
      folder: the split's folder.

    Yields:
      Images, uint8 [B, 784], and their labels, int64 [B].

    Raises:
      FileNotFoundError: the folder has no files, so that nothing would be checked.
    """
    files = os.path.join(folder, "*")
    if not tf.io.gfile.glob(files):
        raise FileNotFoundError(f"{folder} must have files of examples, it has none")
    examples = read_examples([files], RAW, batch_size=_BATCH)
    for batch in examples.as_numpy_iterator():
        yield batch.images.reshape(len(batch.images), -1), batch.labels

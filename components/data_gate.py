"""DataGate: stops the run when the data have anomalies.

ExampleValidator only records anomalies, and never stops a run.
"""

import os

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.dsl.component.experimental.annotations import InputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts


class DataAnomalyError(ValueError):
    """The data are not what the schema says."""


def describe(split: str, anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """Returns one line for each anomaly of a split."""
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
) -> None:
    """Raises DataAnomalyError with every anomaly of every split, if there is any."""
    found = []
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        path = os.path.join(anomalies.uri, f"Split-{split}", DEFAULT_FILE_NAME)
        with fileio.open(path, "rb") as file:
            proto = anomalies_pb2.Anomalies.FromString(file.read())
        found += describe(split, proto)
    if found:
        raise DataAnomalyError(
            "the data are not what pipeline/schema.pbtxt says: " + "; ".join(found)
        )

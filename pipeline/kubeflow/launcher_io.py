"""The launcher's input in the form that TFX reads, and TFX's report in KFP's form."""

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from components.reporting import page
from model.files.filesystems import SCHEMES
from model.files.safe_paths import PathError
from pipeline.kubeflow.contract import ShownAs

# The folders in which the launcher keeps scheme://BUCKET/KEY: it downloads a step's
# inputs to there before the step, and uploads the outputs from there afterwards. Steps
# read and write only these copies.
FOLDERS = {scheme: f"/{scheme}" for scheme in SCHEMES} | {"gs": "/gcs"}

_Message = TypeVar("_Message")


def parse(message_class: type[_Message], text: str) -> _Message:
    """Returns a message from JSON, in which other versions of KFP have other fields."""
    return json_format.Parse(text, message_class(), ignore_unknown_fields=True)


def localize_executor_input(
    executor_input: pipeline_spec_pb2.ExecutorInput,
    *,
    inputs: pipeline_spec_pb2.ComponentInputsSpec,
    outputs: pipeline_spec_pb2.ComponentOutputsSpec,
    folders: Mapping[str, str] = FOLDERS,
) -> pipeline_spec_pb2.ExecutorInput:
    """Returns what KFP gives a step as TFX expects it; makes the outputs' folders.

    Types come from the specs: KFP gives none, or one of its own in place of TFX's.
    Artifacts that the specs do not have are dropped, such as `executor-logs`, KFP's
    copy of what the step prints. URIs become the paths of the launcher's copies.

    Args:
      executor_input: what KFP's launcher gives.
      inputs: the step's inputs, as TFX compiled them.
      outputs: the step's outputs, as TFX compiled them.
      folders: scheme -> the launcher's folder.

    Raises:
      PathError: an artifact's URI has another scheme, or leads out of the launcher's
        folder.
    """
    result = pipeline_spec_pb2.ExecutorInput()
    result.CopyFrom(executor_input)
    # The compiler added them; TFX does not know them.
    result.outputs.ClearField("parameters")
    for channels, spec in (
        (result.inputs.artifacts, inputs.artifacts),
        (result.outputs.artifacts, outputs.artifacts),
    ):
        for key in set(channels) - set(spec):
            del channels[key]
        for key, artifact in _artifacts(channels):
            artifact.type.CopyFrom(spec[key].artifact_type)
            artifact.uri = local_path(artifact.uri, folders)
            _unwrap(artifact.metadata)
    for _, artifact in _artifacts(result.inputs.artifacts):
        artifact.name = artifact.name or artifact.uri  # TFX derives its ids from names
    for _, artifact in _artifacts(result.outputs.artifacts):
        os.makedirs(artifact.uri, exist_ok=True)
    return result


def local_path(uri: str, folders: Mapping[str, str] = FOLDERS) -> str:
    """Returns the path of the launcher's copy of an artifact.

    A path stays as it is: kfp.local gives paths.

    Raises:
      PathError: the URI has a scheme that the launcher does not copy, or leads out of
        the launcher's folder.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator and os.path.isabs(uri):
        return uri
    if scheme not in folders:
        known = ", ".join(f"{scheme}://" for scheme in folders)
        raise PathError(
            f"an artifact's URI must begin with {known} or /, got {uri!r}: choose "
            "another pipeline root"
        )
    if rest.startswith("/") or ".." in rest.split("/"):
        raise PathError(
            f"an artifact's URI must lead below {folders[scheme]} here, got {uri!r}"
        )
    return os.path.join(folders[scheme], rest)


def remote_uri(path: str, folders: Mapping[str, str] = FOLDERS) -> str:
    """Returns the URI whose `local_path` is the path; other texts as they are."""
    for scheme, folder in folders.items():
        if path.startswith(f"{folder}/"):
            return f"{scheme}://{path[len(folder) + 1 :]}"
    return path


def read_report(
    text: str, folders: Mapping[str, str] = FOLDERS
) -> pipeline_spec_pb2.ExecutorOutput:
    """Returns TFX's report with URIs in place of paths, and without nulls."""
    report = parse(pipeline_spec_pb2.ExecutorOutput, text)
    for _, artifact in _artifacts(report.artifacts):
        artifact.uri = remote_uri(artifact.uri, folders)
        _unwrap(artifact.metadata)
        for value in artifact.metadata.fields.values():
            if value.HasField("string_value"):  # a blessing names its model's URI
                value.string_value = remote_uri(value.string_value, folders)
    return report


def prepare_shown_outputs(
    report: pipeline_spec_pb2.ExecutorOutput,
    shown: Mapping[str, ShownAs],
    *,
    folders: Mapping[str, str] = FOLDERS,
) -> None:
    """Changes outputs, and their entries in the report, to what KFP's UI expects.

    Args:
      report: what `read_report` returned.
      shown: the outputs to change: name -> how the UI shows it.
      folders: scheme -> the launcher's folder.
    """
    for name, shown_as in shown.items():
        for artifact in report.artifacts[name].artifacts:
            if shown_as is ShownAs.PAGE:
                folder = pathlib.Path(local_path(artifact.uri, folders))
                _replace_folder_by_its_page(folder)
            if shown_as is ShownAs.METRICS:
                _delete_all_but_numbers(artifact.metadata)


def to_number(value: struct_pb2.Value) -> int | float:
    """Returns KFP's number, which knows no integers, as an integer if it is one."""
    number = value.number_value
    return int(number) if number.is_integer() else number


def _unwrap(metadata: struct_pb2.Struct) -> None:
    """Removes nulls, and what KFP wraps around structs and lists."""
    for key, value in list(metadata.fields.items()):
        if value.WhichOneof("kind") in (None, "null_value"):
            del metadata.fields[key]
        elif set(value.struct_value.fields) in ({"struct"}, {"list"}):
            inner = struct_pb2.Value()
            inner.CopyFrom(*value.struct_value.fields.values())
            value.CopyFrom(inner)


def _replace_folder_by_its_page(folder: pathlib.Path) -> None:
    """Moves the page to where the folder is that TFX gave to the step."""
    beside = folder.with_name(f"{folder.name}-{page.PAGE}")
    (folder / page.PAGE).rename(beside)
    folder.rmdir()
    beside.rename(folder)


def _delete_all_but_numbers(metadata: struct_pb2.Struct) -> None:
    for key, value in list(metadata.fields.items()):
        if not value.HasField("number_value"):
            del metadata.fields[key]


def _artifacts(channels: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, channel in channels.items():
        for artifact in channel.artifacts:
            yield key, artifact

"""The conversion of KFP's input for a step to TFX's form, and of its report back."""

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from components.reporting import page
from model.files.locations import SCHEMES
from model.files.safe_paths import PathError
from pipeline.kubeflow.contract import ShownAs

# The folders in which KFP's launcher has copies of scheme://BUCKET/KEY. The launcher
# downloads a step's inputs to a folder before the step, and uploads the outputs from
# there after the step. Steps read and write only these copies.
FOLDERS = {scheme: f"/{scheme}" for scheme in SCHEMES} | {"gs": "/gcs"}

_Message = TypeVar("_Message")


def parse_message(message_class: type[_Message], text: str) -> _Message:
    """Returns a Protobuf message that is parsed from JSON.

    Unknown fields are ignored, because other versions of KFP have other fields.
    """
    return json_format.Parse(text, message_class(), ignore_unknown_fields=True)


def localize_executor_input(
    executor_input: pipeline_spec_pb2.ExecutorInput,
    *,
    inputs: pipeline_spec_pb2.ComponentInputsSpec,
    outputs: pipeline_spec_pb2.ComponentOutputsSpec,
    folders: Mapping[str, str] = FOLDERS,
) -> pipeline_spec_pb2.ExecutorInput:
    """Converts a step's input from KFP's form to TFX's; makes the outputs' folders.

    Sets the artifacts' types from the specs, because KFP passes no types or its own
    ones. Deletes artifacts that the specs do not have, such as `executor-logs`, KFP's
    copy of what the step prints. Replaces URIs by the paths of the launcher's copies.

    Args:
      executor_input: the input that KFP's launcher passes to the step.
      inputs: the step's inputs, as TFX compiled them.
      outputs: the step's outputs, as TFX compiled them.
      folders: scheme -> the launcher's folder.

    Raises:
      PathError: an artifact's URI has a scheme that is not in `folders`, or leads out
        of the launcher's folder.
    """
    result = pipeline_spec_pb2.ExecutorInput()
    result.CopyFrom(executor_input)
    # TFX does not know these parameters, which the compiler added.
    result.outputs.ClearField("parameters")
    for channels, spec in (
        (result.inputs.artifacts, inputs.artifacts),
        (result.outputs.artifacts, outputs.artifacts),
    ):
        for key in set(channels) - set(spec):
            del channels[key]
        for key, artifact in _iterate_artifacts(channels):
            artifact.type.CopyFrom(spec[key].artifact_type)
            artifact.uri = to_local_path(artifact.uri, folders)
            _unwrap(artifact.metadata)
    for _, artifact in _iterate_artifacts(result.inputs.artifacts):
        artifact.name = artifact.name or artifact.uri  # TFX derives ids from names
    for _, artifact in _iterate_artifacts(result.outputs.artifacts):
        os.makedirs(artifact.uri, exist_ok=True)
    return result


def to_local_path(uri: str, folders: Mapping[str, str] = FOLDERS) -> str:
    """Returns the path of the launcher's copy of an artifact.

    Args:
      uri: the artifact's URI; or its absolute path, which kfp.local passes and which is
        returned unchanged.
      folders: scheme -> the launcher's folder.

    Raises:
      PathError: the URI has a scheme that is not in `folders`, or leads out of the
        launcher's folder.
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
            f"an artifact's URI must not lead out of {folders[scheme]}, got {uri!r}"
        )
    return os.path.join(folders[scheme], rest)


def to_remote_uri(path: str, folders: Mapping[str, str] = FOLDERS) -> str:
    """Returns the URI of an artifact from the path of the launcher's copy.

    Args:
      path: the path; a text that is not in the launcher's folders is returned
        unchanged.
      folders: scheme -> the launcher's folder.
    """
    for scheme, folder in folders.items():
        if path.startswith(f"{folder}/"):
            return f"{scheme}://{path[len(folder) + 1 :]}"
    return path


def read_report(
    text: str, folders: Mapping[str, str] = FOLDERS
) -> pipeline_spec_pb2.ExecutorOutput:
    """Parses TFX's report of a step and converts it to KFP's form.

    Replaces the paths of the launcher's copies by URIs, and removes nulls.

    Args:
      text: the report, an ExecutorOutput in JSON.
      folders: scheme -> the launcher's folder.
    """
    report = parse_message(pipeline_spec_pb2.ExecutorOutput, text)
    for _, artifact in _iterate_artifacts(report.artifacts):
        artifact.uri = to_remote_uri(artifact.uri, folders)
        _unwrap(artifact.metadata)
        for value in artifact.metadata.fields.values():
            if value.HasField("string_value"):  # such as the model's URI in a blessing
                value.string_value = to_remote_uri(value.string_value, folders)
    return report


def prepare_shown_outputs(
    report: pipeline_spec_pb2.ExecutorOutput,
    shown: Mapping[str, ShownAs],
    *,
    folders: Mapping[str, str] = FOLDERS,
) -> None:
    """Changes a step's outputs and its report so that KFP's UI can show the outputs.

    Args:
      report: what `read_report` returned.
      shown: the outputs to change: name -> how the UI shows it.
      folders: scheme -> the launcher's folder.
    """
    for name, shown_as in shown.items():
        for artifact in report.artifacts[name].artifacts:
            if shown_as is ShownAs.PAGE:
                folder = pathlib.Path(to_local_path(artifact.uri, folders))
                _replace_folder_by_its_page(folder)
            if shown_as is ShownAs.METRICS:
                _delete_all_but_numbers(artifact.metadata)


def to_number(value: struct_pb2.Value) -> int | float:
    """Returns a number of KFP, which has only floats, as int if it is whole."""
    number = value.number_value
    return int(number) if number.is_integer() else number


def _unwrap(metadata: struct_pb2.Struct) -> None:
    """Removes nulls, and the wrappers that KFP puts around structs and lists."""
    for key, value in list(metadata.fields.items()):
        if value.WhichOneof("kind") in (None, "null_value"):
            del metadata.fields[key]
        elif set(value.struct_value.fields) in ({"struct"}, {"list"}):
            inner = struct_pb2.Value()
            inner.CopyFrom(*value.struct_value.fields.values())
            value.CopyFrom(inner)


def _replace_folder_by_its_page(folder: pathlib.Path) -> None:
    """Replaces an output folder by the page in it, because KFP's UI expects a file."""
    temporary = folder.with_name(f"{folder.name}-{page.PAGE}")
    (folder / page.PAGE).rename(temporary)
    folder.rmdir()
    temporary.rename(folder)


def _delete_all_but_numbers(metadata: struct_pb2.Struct) -> None:
    for key, value in list(metadata.fields.items()):
        if not value.HasField("number_value"):
            del metadata.fields[key]


def _iterate_artifacts(channels: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, channel in channels.items():
        for artifact in channel.artifacts:
            yield key, artifact

"""What each Kubeflow container starts: one step, on a cluster or under kfp.local.

    python -m pipeline.kubeflow.entrypoint ARGS

ARGS are those that TFX compiles and those that compiler.py adds. KFP tells a step of
its inputs and outputs otherwise than TFX's own entrypoint expects: what KFP gives is
repaired here, then TFX's runs the step, then its report is repaired for KFP.
"""

import argparse
import importlib.resources
import json
import logging
import os
import pathlib
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.startup import environment  # isort: skip

if __name__ == "__main__":  # before any library is imported
    environment.prepare()

# First, for it brings `model`, which chooses Keras 2 before TensorFlow is imported.
from pipeline import exit_codes
from pipeline.config import loading

from pipeline.runs import process  # isort: skip

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

from components.reporting import page
from model.files.safe_paths import PathError

# Where KFP's launcher keeps scheme://BUCKET/KEY: it downloads a step's inputs to there
# before, and uploads its outputs from there after. Steps touch nothing but these.
FOLDERS = {"minio": "/minio", "s3": "/s3", "gs": "/gcs"}

# What may be chosen when a run is submitted: KFP's parameter -> the setting.
RUN_PARAMETERS = {
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "learning_rate": "train.learning_rate",
    "seed": "train.seed",
    "elbo_floor": "gate.elbo_floor",
    "tolerance": "gate.tolerance",
}

# The steps that KFP does not cache, and where they tell what they found: an output and
# a property of it. The steps after them get that as a parameter (see kubeflow.py).
FINGERPRINTS = {
    "Ingest": ("examples", "fingerprint"),
    "ServedModel": ("model", "version"),
}
FINGERPRINT = "fingerprint"  # such a step's output parameter

# Outputs that KFP's UI shows, by its own types: it takes what is at the page's URI for
# the page, and every property of metrics for a number.
_PAGE, _METRICS = "system.HTML", "system.Metrics"
SHOWN = {"Report": {"page": _PAGE, "metrics": _METRICS}}

# Is another in each run, so that a step which gets it never comes from KFP's cache.
RUN_ID = "run_id"

# package:NAME/FILE is a file of the package NAME, wherever the image has it.
PACKAGE = "package:"

Properties = Mapping[str, struct_pb2.Value]


def main(
    argv: Sequence[str] | None = None, folders: Mapping[str, str] = FOLDERS
) -> int:
    """Runs one step and returns the process's exit code."""
    args, flags = _parser().parse_known_args(argv)
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)s {args.step}: %(message)s",
        force=True,  # importing TensorFlow and Beam left handlers
    )
    try:
        run(args, flags, folders)
    except Exception as error:
        logging.exception("failed")
        print(
            f"{args.step} failed: {exit_codes.cause(error)}",
            file=sys.stderr,
            flush=True,
        )
        return 1
    logging.info("done")
    return 0


def run(
    args: argparse.Namespace, flags: Sequence[str], folders: Mapping[str, str] = FOLDERS
) -> None:
    """Runs one step by TFX's own container entrypoint.

    Args:
      args: what `main` parsed.
      flags: the rest, for the step's executor: Beam's options.
      folders: where the launcher keeps each scheme's artifacts.

    Raises:
      ConfigError: a run parameter is not what it should be.
      ValueError: an artifact is where the launcher keeps none.
    """
    given = _parse(
        pipeline_spec_pb2.ExecutorInput, args.json_serialized_invocation_args
    )
    executor_input = repaired(
        given,
        _parse(
            pipeline_spec_pb2.ComponentInputsSpec, args.json_serialized_inputs_spec_args
        ),
        _parse(pipeline_spec_pb2.ComponentOutputsSpec, args.outputs),
        folders,
    )
    _set_properties(executor_input.inputs.parameter_values, args.step, args.config)
    report = pathlib.Path(given.outputs.output_file)
    # No step has a driver that would have left it: it is that of an earlier attempt.
    report.unlink(missing_ok=True)
    tfx_args = argparse.Namespace(
        executor_class_path=args.executor_class_path,
        json_serialized_invocation_args=json_format.MessageToJson(executor_input),
        json_serialized_inputs_spec_args=args.json_serialized_inputs_spec_args,
    )
    kubeflow_v2_run_executor.main((tfx_args, list(flags)))
    repaired_report = _repaired_report(report.read_text(encoding="utf-8"), folders)
    _show(repaired_report, SHOWN.get(args.step, {}), folders)
    report.write_text(json_format.MessageToJson(repaired_report), encoding="utf-8")
    if args.step in FINGERPRINTS:
        file = pathlib.Path(given.outputs.parameters[FINGERPRINT].output_file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_fingerprint(args.step, repaired_report), encoding="utf-8")


def repaired(
    given: pipeline_spec_pb2.ExecutorInput,
    inputs: pipeline_spec_pb2.ComponentInputsSpec,
    outputs: pipeline_spec_pb2.ComponentOutputsSpec,
    folders: Mapping[str, str] = FOLDERS,
) -> pipeline_spec_pb2.ExecutorInput:
    """Returns what KFP gives a step as TFX expects it; makes the outputs' folders.

    Types come from the specs: KFP gives none, or one of its own for TFX's. Artifacts
    that the specs do not know are dropped, such as `executor-logs`, KFP's copy of what
    the step prints. URIs become the paths of the launcher's copies.
    """
    result = pipeline_spec_pb2.ExecutorInput()
    result.CopyFrom(given)
    result.outputs.ClearField("parameters")  # ours, not TFX's
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
        artifact.name = artifact.name or artifact.uri  # TFX makes its ids of them
    for _, artifact in _artifacts(result.outputs.artifacts):
        os.makedirs(artifact.uri, exist_ok=True)
    return result


def local_path(uri: str, folders: Mapping[str, str] = FOLDERS) -> str:
    """Returns where the launcher keeps an artifact; kfp.local gives paths already."""
    scheme, separator, rest = uri.partition("://")
    if not separator and os.path.isabs(uri):
        return uri
    if scheme not in folders:
        known = ", ".join(f"{scheme}://" for scheme in folders)
        raise ValueError(
            f"an artifact's URI must begin with {known} or /, got {uri!r}: choose "
            "another pipeline root"
        )
    if rest.startswith("/") or ".." in rest.split("/"):
        raise PathError(
            f"an artifact's URI must lead below {folders[scheme]} here, got {uri!r}"
        )
    return os.path.join(folders[scheme], rest)


def remote_uri(path: str, folders: Mapping[str, str] = FOLDERS) -> str:
    """Returns what `local_path` was given; other texts as they are."""
    for scheme, folder in folders.items():
        if path.startswith(f"{folder}/"):
            return f"{scheme}://{path[len(folder) + 1 :]}"
    return path


def properties(settings: loading.PipelineConfig) -> Mapping[str, Properties]:
    """Returns every step's execution properties, as KFP passes them.

    Those that are paths are empty, but for the checkpoints': a runner knows them, not
    the settings.
    """
    # Only here, for it takes as long again as all above, and few steps need it.
    from pipeline import graph

    # With the checkpoints' place, which is in one property with run parameters.
    paths = graph.Paths("", "", "", "", settings.kubeflow.checkpoints)
    pipeline = graph.create_pipeline(settings, paths)
    return {
        component.id: {
            name: compiler_utils.value_converter(value).constant
            for name, value in component.exec_properties.items()
            if value is not None
        }
        for component in pipeline.components
    }


def _set_properties(values, step: str, settings: str) -> None:
    """Folds the run parameters into the properties they decide, and finds files.

    TFX's properties are JSON in which KFP can't set a single value. So those that
    depend on run parameters are made anew, from the settings with the run's values.
    What is there only for KFP's cache goes.
    """
    chosen = {name: _number(values[name]) for name in RUN_PARAMETERS if name in values}
    for name in list(values):
        for_cache = name == RUN_ID and step not in SHOWN
        if name in RUN_PARAMETERS or for_cache or name.endswith(f"_{FINGERPRINT}"):
            del values[name]
    if settings:
        sections = json.loads(settings)
        compiled = properties(loading.from_dict(sections))[step]
        for name, number in chosen.items():
            section, field = RUN_PARAMETERS[name].split(".")
            sections[section][field] = number
        for name, value in properties(loading.from_dict(sections))[step].items():
            if value != compiled[name]:
                values[name].CopyFrom(value)
    for name, value in values.items():
        if value.string_value.startswith(PACKAGE):
            package, _, file = value.string_value[len(PACKAGE) :].partition("/")
            path = importlib.resources.files(package).joinpath(file)
            values[name].string_value = str(path)


def _number(value: struct_pb2.Value) -> int | float:
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


def _fingerprint(step: str, report: pipeline_spec_pb2.ExecutorOutput) -> str:
    """Returns what identifies that which a step found outside KFP."""
    output, name = FINGERPRINTS[step]
    (artifact,) = report.artifacts[output].artifacts
    if name not in artifact.metadata.fields:
        # Nothing is served: like no other run, for the one that found the same before
        # may have pushed what somebody has removed since.
        return f"none {uuid.uuid4()}"
    value = artifact.metadata.fields[name]
    return value.string_value or str(_number(value))


def _repaired_report(
    text: str, folders: Mapping[str, str]
) -> pipeline_spec_pb2.ExecutorOutput:
    """Returns TFX's report with URIs in place of paths, and without nulls."""
    report = _parse(pipeline_spec_pb2.ExecutorOutput, text)
    for _, artifact in _artifacts(report.artifacts):
        artifact.uri = remote_uri(artifact.uri, folders)
        _unwrap(artifact.metadata)
        for value in artifact.metadata.fields.values():
            if value.HasField("string_value"):  # a blessing tells which model's it is
                value.string_value = remote_uri(value.string_value, folders)
    return report


def _show(
    report: pipeline_spec_pb2.ExecutorOutput,
    shown: Mapping[str, str],
    folders: Mapping[str, str],
) -> None:
    """Makes of a step's outputs what KFP's UI expects."""
    for name, kind in shown.items():
        for artifact in report.artifacts[name].artifacts:
            if kind == _PAGE:
                _replace_by_its_page(pathlib.Path(local_path(artifact.uri, folders)))
            for key, value in list(artifact.metadata.fields.items()):
                if kind == _METRICS and not value.HasField("number_value"):
                    del artifact.metadata.fields[key]


def _replace_by_its_page(folder: pathlib.Path) -> None:
    """Puts the page where the folder is that TFX gave to the step."""
    beside = folder.with_name(f"{folder.name}-{page.PAGE}")
    (folder / page.PAGE).rename(beside)
    folder.rmdir()
    beside.rename(folder)


def _artifacts(channels) -> Iterator[tuple[str, Any]]:
    for key, channel in channels.items():
        for artifact in channel.artifacts:
            yield key, artifact


def _parse(message_class, text: str):
    # Other versions of KFP know other fields.
    return json_format.Parse(text, message_class(), ignore_unknown_fields=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.kubeflow.entrypoint",
        description="Runs one step; its arguments are in the compiled pipeline.",
        allow_abbrev=False,  # the rest is for Beam
    )
    parser.add_argument("--step", required=True, help="the step's name in the graph")
    parser.add_argument("--executor_class_path", required=True, help="what runs it")
    parser.add_argument(
        "--json_serialized_invocation_args",
        required=True,
        help="an ExecutorInput, as KFP's driver resolved it",
    )
    parser.add_argument(
        "--json_serialized_inputs_spec_args",
        required=True,
        help="the ComponentInputsSpec that TFX compiled",
    )
    parser.add_argument(
        "--outputs", required=True, help="the ComponentOutputsSpec that TFX compiled"
    )
    parser.add_argument(
        "--key",
        help="a digest of all settings: nothing but a part of KFP's cache key",
    )
    parser.add_argument(
        "--config",
        help="the settings that were compiled, for a step with run parameters",
    )
    return parser


if __name__ == "__main__":
    # Of the first process in a container Linux takes no default action: without a
    # handler, an eviction would wait for its SIGKILL.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    process.leave(main)

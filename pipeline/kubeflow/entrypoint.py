"""The entrypoint of each step's container, on a cluster or under kfp.local.

    python -m pipeline.kubeflow.entrypoint ARGS

ARGS are the arguments that TFX compiles and those that compiler.py adds. KFP describes
a step's inputs and outputs in another form than TFX's own entrypoint expects. So this
entrypoint changes the inputs to TFX's form, runs the step with TFX's entrypoint, and
changes the step's report to KFP's form.
"""

import argparse
import dataclasses
import importlib.resources
import json
import logging
import pathlib
import signal
import sys
import uuid
from collections.abc import Mapping, MutableMapping, Sequence

from pipeline.startup import environment  # isort: skip

if __name__ == "__main__":  # before any library is imported
    environment.prepare()

# First, because it imports `model`, which selects Keras 2 before TensorFlow's import.
from pipeline import exit_codes
from pipeline.config import loading

from pipeline.runs import process  # isort: skip

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

from pipeline.kubeflow import contract, launcher_io


@dataclasses.dataclass(frozen=True, kw_only=True)
class Invocation:
    """The parsed command line of one step's container."""

    arguments: contract.StepArguments
    executor_class_path: str
    executor_input: str  # an ExecutorInput in JSON
    inputs: str  # a ComponentInputsSpec in JSON
    executor_flags: tuple[str, ...]  # Beam's options


def main(
    argv: Sequence[str] | None = None,
    folders: Mapping[str, str] = launcher_io.FOLDERS,
) -> int:
    """Runs one step, logs how it ended and returns the process's exit code.

    Args:
      argv: the command line's arguments; None: those of this process.
      folders: scheme -> the launcher's folder.
    """
    invocation = parse_command_line(argv)
    step = invocation.arguments.step
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)s {step}: %(message)s",
        force=True,  # replaces the handlers that the imports of TensorFlow and Beam set
    )
    try:
        run_step(invocation, folders)
    except Exception as error:
        logging.exception("failed")
        print(
            f"{step} failed: {exit_codes.describe_cause(error)}",
            file=sys.stderr,
            flush=True,
        )
        return 1
    logging.info("done")
    return 0


def run_step(
    invocation: Invocation, folders: Mapping[str, str] = launcher_io.FOLDERS
) -> None:
    """Runs one step with TFX's container entrypoint and writes its report for KFP.

    Args:
      invocation: the parsed command line.
      folders: scheme -> the launcher's folder.

    Raises:
      ConfigError: a run parameter has a wrong value.
      PathError: an artifact's URI is not in the launcher's folders.
    """
    step = invocation.arguments.step
    given = launcher_io.parse_message(
        pipeline_spec_pb2.ExecutorInput, invocation.executor_input
    )
    executor_input = launcher_io.localize_executor_input(
        given,
        inputs=launcher_io.parse_message(
            pipeline_spec_pb2.ComponentInputsSpec, invocation.inputs
        ),
        outputs=launcher_io.parse_message(
            pipeline_spec_pb2.ComponentOutputsSpec, invocation.arguments.outputs
        ),
        folders=folders,
    )
    set_properties(
        executor_input.inputs.parameter_values,
        step,
        config=invocation.arguments.config,
    )
    report_file = pathlib.Path(given.outputs.output_file)
    # Any report here is from an earlier attempt, because no step has a driver.
    report_file.unlink(missing_ok=True)
    tfx_arguments = argparse.Namespace(
        executor_class_path=invocation.executor_class_path,
        json_serialized_invocation_args=json_format.MessageToJson(executor_input),
        json_serialized_inputs_spec_args=invocation.inputs,
    )
    kubeflow_v2_run_executor.main((tfx_arguments, list(invocation.executor_flags)))
    report = launcher_io.read_report(report_file.read_text(encoding="utf-8"), folders)
    shown = contract.SHOWN_OUTPUTS.get(step, {})
    launcher_io.prepare_shown_outputs(report, shown, folders=folders)
    report_file.write_text(json_format.MessageToJson(report), encoding="utf-8")
    if step in contract.FINGERPRINTS:
        parameter = given.outputs.parameters[contract.FINGERPRINT]
        file = pathlib.Path(parameter.output_file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(find_fingerprint(report, step), encoding="utf-8")


def set_properties(
    values: MutableMapping[str, struct_pb2.Value], step: str, *, config: str | None
) -> None:
    """Changes a step's parameters to the execution properties that TFX expects.

    Some properties are JSON texts that contain run parameters, and KFP can't change a
    value inside them. So this function makes these properties again, from the settings
    with the run's values. It deletes parameters that are only for KFP's cache key, and
    replaces package:NAME/FILE by the file's path.

    Args:
      values: the step's parameters as KFP gives them; changed in place.
      step: the step's name.
      config: the compiled settings in JSON; None: no property of the step contains a
        run parameter.

    Raises:
      ConfigError: a run parameter has a wrong value.
    """
    chosen = [
        (parameter, _read_value(parameter, values[parameter.name]))
        for parameter in contract.RUN_PARAMETERS
        if parameter.name in values
    ]
    for name in contract.list_cache_key_parameters(step) & set(values):
        del values[name]
    if config is not None:
        sections = json.loads(config)
        for parameter, value in chosen:
            sections[parameter.section][parameter.field] = value
        properties = make_properties(loading.from_dict(sections), step)
        for parameter, _ in chosen:
            if step in parameter.properties:
                holder = parameter.properties[step]
                values[holder].CopyFrom(properties[holder])
    for name, value in values.items():
        if value.string_value.startswith(contract.PACKAGE):
            resource = value.string_value.removeprefix(contract.PACKAGE)
            package, _, file = resource.partition("/")
            path = importlib.resources.files(package).joinpath(file)
            values[name].string_value = str(path)


def _read_value(
    parameter: contract.RunParameter, value: struct_pb2.Value
) -> int | float | str:
    """Returns the value of a run parameter, as a config file would have it.

    Raises:
      ConfigError: the parameter is a text, and its value is no YAML.
    """
    if not parameter.is_text:
        return launcher_io.to_number(value)
    setting = f"{parameter.setting}={value.string_value}"
    return loading.parse_setting(setting)[parameter.section][parameter.field]


def make_properties(
    config: loading.PipelineConfig, step: str
) -> dict[str, struct_pb2.Value]:
    """Returns a step's execution properties in the form in which KFP passes them.

    Properties that are paths are empty, because the settings do not have the paths. The
    path of the checkpoints is an exception.

    Args:
      config: the settings, with the run's values of the run parameters.
      step: the step's name.
    """
    # Imported here: it takes as long as all imports above, and few steps need it.
    from pipeline import graph

    paths = graph.Paths(
        pipeline_root="",
        data_dir="",
        schema_file="",
        destination="",
        # In the same property as run parameters, so that it must be right.
        checkpoints=config.kubeflow.checkpoints,
    )
    pipeline = graph.create_pipeline(config, paths)
    (component,) = [each for each in pipeline.components if each.id == step]
    return {
        name: compiler_utils.value_converter(value).constant
        for name, value in component.exec_properties.items()
        if value is not None
    }


def find_fingerprint(report: pipeline_spec_pb2.ExecutorOutput, step: str) -> str:
    """Returns the fingerprint of the state outside KFP that a step read.

    Args:
      report: the step's report, with the artifact that holds the fingerprint.
      step: the step's name, a key of contract.FINGERPRINTS.
    """
    fingerprint = contract.FINGERPRINTS[step]
    (artifact,) = report.artifacts[fingerprint.output].artifacts
    if fingerprint.property not in artifact.metadata.fields:
        # Nothing is served. The fingerprint must be a new one. With a fixed one, a run
        # could reuse the push of an earlier run that also found nothing, although
        # somebody deleted the pushed version since.
        return f"none {uuid.uuid4()}"
    value = artifact.metadata.fields[fingerprint.property]
    return value.string_value or str(launcher_io.to_number(value))


def parse_command_line(argv: Sequence[str] | None) -> Invocation:
    """Parses a container's command line.

    Args:
      argv: the arguments; None: those of this process.
    """
    args, executor_flags = _make_parser().parse_known_args(argv)
    return Invocation(
        arguments=contract.StepArguments(
            step=args.step, outputs=args.outputs, key=args.key, config=args.config
        ),
        executor_class_path=args.executor_class_path,
        executor_input=args.json_serialized_invocation_args,
        inputs=args.json_serialized_inputs_spec_args,
        executor_flags=tuple(executor_flags),
    )


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.kubeflow.entrypoint",
        description="Runs one step; its arguments are in the compiled pipeline.",
        allow_abbrev=False,  # unknown options are Beam's
    )
    parser.add_argument(
        "--executor_class_path", required=True, help="the class of the step's executor"
    )
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
    contract.StepArguments.add_options(parser)
    return parser


if __name__ == "__main__":
    # Linux ignores SIGTERM for the first process of a container unless the process has
    # a handler. Without one, an evicted pod would run on until SIGKILL.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    process.run_and_exit(main)

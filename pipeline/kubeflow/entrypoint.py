"""What each Kubeflow container starts: one step, on a cluster or under kfp.local.

    python -m pipeline.kubeflow.entrypoint ARGS

ARGS are those that TFX compiles and those that compiler.py adds. KFP describes a step's
inputs and outputs in another form than TFX's own entrypoint expects. So this one
changes the inputs to TFX's form, lets TFX's entrypoint run the step, and changes the
step's report to KFP's form.
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

# First, for it brings `model`, which chooses Keras 2 before TensorFlow is imported.
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
    """Runs one step and returns the process's exit code."""
    invocation = parse_command_line(argv)
    step = invocation.arguments.step
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)s {step}: %(message)s",
        force=True,  # importing TensorFlow and Beam left handlers
    )
    try:
        run_step(invocation, folders)
    except Exception as error:
        logging.exception("failed")
        print(f"{step} failed: {exit_codes.cause(error)}", file=sys.stderr, flush=True)
        return 1
    logging.info("done")
    return 0


def run_step(
    invocation: Invocation, folders: Mapping[str, str] = launcher_io.FOLDERS
) -> None:
    """Runs one step by TFX's own container entrypoint.

    Args:
      invocation: what to run.
      folders: scheme -> the launcher's folder.

    Raises:
      ConfigError: a run parameter is not what it should be.
      PathError: an artifact is where the launcher keeps none.
    """
    step = invocation.arguments.step
    given = launcher_io.parse(
        pipeline_spec_pb2.ExecutorInput, invocation.executor_input
    )
    executor_input = launcher_io.localize_executor_input(
        given,
        inputs=launcher_io.parse(
            pipeline_spec_pb2.ComponentInputsSpec, invocation.inputs
        ),
        outputs=launcher_io.parse(
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
    # No driver has written it, since no step has one: it is from an earlier attempt.
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

    TFX's properties are JSON texts in which KFP can't set a single value. So those that
    hold run parameters are made anew, from the settings with the run's values. What is
    only a part of KFP's cache key is deleted. Names of files in Python packages become
    their paths.

    Args:
      values: the parameters, as KFP gives them.
      step: whose they are.
      config: the settings that were compiled, in JSON; None: no property of the step
        holds a run parameter.

    Raises:
      ConfigError: a run parameter is not what it should be.
    """
    chosen = [
        (parameter, launcher_io.to_number(values[parameter.name]))
        for parameter in contract.RUN_PARAMETERS
        if parameter.name in values
    ]
    for name in contract.cache_key_parameters(step) & set(values):
        del values[name]
    if config is not None:
        sections = json.loads(config)
        for parameter, number in chosen:
            sections[parameter.section][parameter.field] = number
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


def make_properties(
    config: loading.PipelineConfig, step: str
) -> dict[str, struct_pb2.Value]:
    """Returns a step's execution properties, in the form in which KFP passes them.

    Those that are paths are empty, except the checkpoints': a runner knows the others,
    and the settings do not.
    """
    # Only here: it takes as long again as all imports above, and few steps need it.
    from pipeline import graph

    paths = graph.Paths(
        pipeline_root="",
        data_dir="",
        schema_file="",
        destination="",
        # It is in one property with run parameters.
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
    """Returns what identifies the state outside KFP that a step found."""
    fingerprint = contract.FINGERPRINTS[step]
    (artifact,) = report.artifacts[fingerprint.output].artifacts
    if fingerprint.property not in artifact.metadata.fields:
        # Nothing is served. The fingerprint differs from every other run's, because a
        # run that found nothing may have pushed what somebody has removed since.
        return f"none {uuid.uuid4()}"
    value = artifact.metadata.fields[fingerprint.property]
    return value.string_value or str(launcher_io.to_number(value))


def parse_command_line(argv: Sequence[str] | None) -> Invocation:
    """Returns what a container's command line says."""
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
        allow_abbrev=False,  # the rest is for Beam
    )
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
    contract.StepArguments.add_options(parser)
    return parser


if __name__ == "__main__":
    # Of the first process in a container Linux takes no default action: without a
    # handler, an eviction would wait for its SIGKILL.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    process.leave(main)

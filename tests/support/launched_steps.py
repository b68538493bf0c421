"""Steps started as KFP's launcher starts them, and records of their arguments."""

import json
import pathlib

from tfx.dsl.components.base import base_executor
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.types import standard_artifacts

from pipeline.kubeflow import entrypoint

RUN = "bucket/v2/artifacts/vae/run"


class Recorder(base_executor.BaseExecutor):
    """A step that keeps the arguments from TFX, and sets properties of its output."""

    def Do(self, input_dict, output_dict, exec_properties):
        Recorder.inputs, Recorder.properties = input_dict, exec_properties
        (Recorder.model,) = output_dict["model"]
        pathlib.Path(Recorder.model.uri, "weights").write_text("0.5", encoding="utf-8")
        Recorder.model.set_int_custom_property("images", 2000)
        Recorder.model.set_json_value_custom_property("nothing", None)
        for examples in input_dict.get("examples", []):
            Recorder.model.set_string_custom_property("examples", examples.uri)


class Reporter(base_executor.BaseExecutor):
    """A step with Report's outputs, a page and numbers, which measures no model."""

    def Do(self, input_dict, output_dict, exec_properties):
        Reporter.properties = exec_properties
        (page,), (metrics,) = output_dict["page"], output_dict["metrics"]
        pathlib.Path(page.uri, "report.html").write_text(
            "<p>blessed</p>", encoding="utf-8"
        )
        metrics.set_float_custom_property("elbo", -91.5)


class Failing(base_executor.BaseExecutor):
    """A step that fails with an error whose cause has a message of two lines."""

    def Do(self, input_dict, output_dict, exec_properties):
        try:
            raise OSError("the disk is full\nand more of it")
        except OSError as error:
            raise RuntimeError("something failed") from error


def make_type(artifact_class):
    """Returns an artifact's type in JSON, as TFX compiles it."""
    text = compiler_utils.get_artifact_schema(artifact_class)
    return {"instanceSchema": text if isinstance(text, str) else text.decode()}


INPUTS = {
    "artifacts": {"examples": {"artifactType": make_type(standard_artifacts.Examples)}},
    "parameters": {
        "limit": {"parameterType": "NUMBER_INTEGER"},
        "rate": {"parameterType": "NUMBER_DOUBLE"},
    },
}
OUTPUTS = {
    "artifacts": {"model": {"artifactType": make_type(standard_artifacts.Model)}}
}
EXAMPLES = {"name": "17", "uri": f"minio://{RUN}/ingest/examples", "metadata": {}}


def start_step(
    folders,
    report_file,
    *,
    examples=(EXAMPLES,),
    root=f"minio://{RUN}/recorder",
    executor=Recorder,
    **others,
):
    """Starts a step with these inputs and outputs; returns its exit code.

    Args:
      folders: scheme -> the launcher's folder.
      report_file: the file of the step's report.
      examples: the artifacts of the step's input.
      root: URI of the folder that contains the step's model.
      executor: the class that runs.
      others: `inputs` to replace the examples; `outputs`, artifacts added to the model
        or replacing it; further fields of the ExecutorInput.
    """
    model = {"uri": f"{root}/model", "type": make_type(standard_artifacts.Model)}
    executor_input = {
        "inputs": {
            "artifacts": {"examples": {"artifacts": list(examples)}},
            "parameterValues": {"limit": 3.0, "rate": 2.0},
        },
        "outputs": {
            "artifacts": {
                "model": {"artifacts": [model]},
                **others.pop("outputs", {}),
            },
            "outputFile": str(report_file),
        },
        **others,
    }
    args = {
        "--executor_class_path": f"{__name__}.{executor.__name__}",
        "--json_serialized_invocation_args": json.dumps(executor_input),
        "--json_serialized_inputs_spec_args": json.dumps(INPUTS),
        "--runner": "FnApiRunner",
        "--step": "Recorder",
        "--outputs": json.dumps(OUTPUTS),
    }
    return entrypoint.main([x for pair in args.items() for x in pair], folders)


def fill_arguments(spec, task, executor_input, *, executor=None, **values):
    """Returns a task's compiled arguments, filled in as KFP's launcher does."""
    task = spec["root"]["dag"]["tasks"][task]
    compiled = {
        name: value["runtimeValue"]["constant"]
        for name, value in task["inputs"].get("parameters", {}).items()
        if "runtimeValue" in value
    }
    executor_input.setdefault("inputs", {})["parameterValues"] = compiled | values
    component = spec["components"][task["componentRef"]["name"]]
    args = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"][
        "args"
    ]
    args = [arg.replace("{{$}}", json.dumps(executor_input)) for arg in args]
    if executor is not None:
        args[args.index("--executor_class_path") + 1] = (
            f"{__name__}.{executor.__name__}"
        )
    return args


def last_line(text):
    """Returns the last line of what a step printed."""
    return text.strip().splitlines()[-1]

"""Compiles the graph for Kubeflow Pipelines v2."""

import copy
import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import yaml
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from pipeline import graph
from pipeline.config.loading import ConfigError, PipelineConfig, decisive
from pipeline.config.sections import StepConfig
from pipeline.kubeflow import entrypoint

# They look at what KFP does not see, and so can't know to have changed.
UNCACHED = tuple(entrypoint.FINGERPRINTS)

# They get the volumes and the secrets: the others touch only their artifacts. So does
# the Trainer when it leaves checkpoints.
_OUTSIDE = ("Ingest", "ServedModel", "Pusher")

_COMMAND = ["python", "-m", "pipeline.kubeflow.entrypoint"]
_SCHEMA_FILE = f"{entrypoint.PACKAGE}pipeline/schema.pbtxt"

_Container = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec


def compile_pipeline(config: PipelineConfig, output: str, image: str) -> None:
    """Writes the pipeline in KFP's YAML: for the same arguments, the same bytes.

    The first document is a PipelineSpec 2.1.0. A second, where one is needed, has what
    KFP leaves to Kubernetes: node selectors, volumes and secrets.

    Args:
      config: what to compile; those of its settings that are RUN_PARAMETERS become the
        defaults of the run's.
      output: the file, *.yaml.
      image: the container image of every step.

    Raises:
      ConfigError: something that a cluster needs is missing or unknown.
    """
    if pathlib.Path(output).suffix not in (".yaml", ".yml"):
        raise ConfigError(f"the output must be a .yaml file, got {output!r}")
    if not image:
        raise ConfigError("the image must be named, such as registry/vae-pipeline:1.0")
    spec = _compiled_by_tfx(config, image)
    steps = list(spec["components"])
    for step in steps:
        _add_arguments(spec, step, config)
    _add_run_parameters(spec, config)
    _add_fingerprints(spec)
    # Who waits for a run reads its verdict from what its Pusher left; the report names
    # the run.
    run_id = {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}
    for step in ("Pusher", "Report"):
        _add_parameter(spec, step, entrypoint.RUN_ID, "STRING", run_id)
    _add_types(spec)
    _rename(spec)
    documents = [spec, *_platform(config, steps)]
    try:
        pathlib.Path(output).write_text(
            yaml.safe_dump_all(documents, sort_keys=True), encoding="utf-8"
        )
    except OSError as error:
        raise ConfigError(f"can't write {output}: {error.strerror}") from error


def run_parameters(config: PipelineConfig) -> dict[str, int | float]:
    """Returns the values of a run's parameters that this config means."""
    values = {}
    for name, setting in entrypoint.RUN_PARAMETERS.items():
        section, field = setting.split(".")
        values[name] = getattr(getattr(config, section), field)
    return values


def task_name(step: str) -> str:
    """Returns a step's name on Kubernetes: that of StatisticsGen is statistics-gen."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", step).lower()


def _compiled_by_tfx(config: PipelineConfig, image: str) -> dict[str, Any]:
    pipeline = graph.create_pipeline(
        config,
        graph.Paths(
            pipeline_root=config.kubeflow.pipeline_root,
            data_dir=config.kubeflow.data_dir,
            schema_file=_SCHEMA_FILE,
            destination=_destination(config),
            checkpoints=config.kubeflow.checkpoints,
            source=config.data.source,
        ),
        graph.BEAM_ARGS,
    )
    steps = [component.id for component in pipeline.components]
    unknown = set(config.kubeflow.steps) - {"default", *steps}
    if unknown:
        raise ConfigError(
            f"kubeflow.steps must name steps ({', '.join(steps)}) or default, "
            f"got {', '.join(sorted(unknown))}"
        )
    for component in pipeline.components:
        component.with_platform_config(_resources(_step(config, component.id)))
    runner_config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
        default_image=image,
        default_commands=_COMMAND,
        use_pipeline_spec_2_1=True,  # open-source KFP takes no other
    )
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(runner_config)
    spec = runner.run(pipeline, write_out=False)["pipelineSpec"]
    if config.kubeflow.pipeline_root:
        spec["defaultPipelineRoot"] = config.kubeflow.pipeline_root
    return spec


def _destination(config: PipelineConfig) -> str:
    if not config.push.destination:
        raise ConfigError(
            "push.destination must be a URI such as s3://bucket/serving, or a folder "
            "in one of kubeflow.volumes, got ''"
        )
    for setting, value in (
        ("push.destination", config.push.destination),
        ("data.source", config.data.source),
    ):
        if value.startswith("~"):
            raise ConfigError(
                f"{setting} must not begin with ~ on Kubeflow, where a container has "
                f"no home of yours, got {value!r}: write a URI, or the whole path of a "
                "folder in one of kubeflow.volumes"
            )
    return f"{config.push.destination.rstrip('/')}/{config.push.model_name}"


def _step(config: PipelineConfig, step: str) -> StepConfig:
    steps = config.kubeflow.steps
    return steps.get(step) or steps.get("default") or StepConfig()


def _resources(step: StepConfig) -> Any:
    # Limits, which Kubernetes takes for the requests too. KFP has newer fields, in
    # text, that older versions refuse; these ones every version reads.
    resources = _Container.ResourceSpec(cpu_limit=step.cpu, memory_limit=step.memory)
    if step.gpus:
        resources.accelerator.type = step.gpu_type
        resources.accelerator.count = step.gpus
    return resources


def _add_arguments(spec: dict[str, Any], step: str, config: PipelineConfig) -> None:
    """Tells the entrypoint what TFX does not, and KFP what not to cache.

    KFP's cache knows a step's inputs by their names alone, on some backends the same in
    every run (kubeflow/pipelines#12751). So all that decides what they hold is a part
    of the step's own key: here the settings; below the run parameters and the
    fingerprints of the steps before.
    """
    outputs = spec["components"][step].get("outputDefinitions", {})
    key = hashlib.sha256(_json(decisive(config)).encode()).hexdigest()
    _args(spec, step).extend(
        ["--step", step, "--outputs", _json(outputs), "--key", key]
    )
    if step in UNCACHED:
        spec["root"]["dag"]["tasks"][step]["cachingOptions"] = {}


def _add_run_parameters(spec: dict[str, Any], config: PipelineConfig) -> None:
    """Gives the pipeline the run parameters, and each step those that it depends on.

    No step gets more: a value that changes nothing would still keep it from the cache.
    """
    compiled = entrypoint.properties(config)
    definitions = {}
    for name, value in run_parameters(config).items():
        kind = "NUMBER_INTEGER" if isinstance(value, int) else "NUMBER_DOUBLE"
        setting = entrypoint.RUN_PARAMETERS[name]
        definitions[name] = {
            "parameterType": kind,
            "defaultValue": value,
            "isOptional": True,
            "description": f"the setting {setting}",
        }
        changed = entrypoint.properties(_with_another_value(config, setting))
        steps = [step for step in compiled if changed[step] != compiled[step]]
        for step in steps:
            if "--config" not in _args(spec, step):
                _args(spec, step).extend(["--config", _json(_of_steps(config))])
        for step in _with_those_after(spec, steps):
            _add_parameter(spec, step, name, kind, {"componentInputParameter": name})
    spec["root"]["inputDefinitions"] = {"parameters": definitions}


def _of_steps(config: PipelineConfig) -> dict[str, dict[str, Any]]:
    """Returns the sections from which a step makes its properties anew."""
    if not config.kubeflow.checkpoints:
        return decisive(config)  # all else there is for Kubernetes alone
    places = {
        "checkpoints": config.kubeflow.checkpoints,
        "volumes": config.kubeflow.volumes,
    }
    return {**decisive(config), "kubeflow": places}


def _add_fingerprints(spec: dict[str, Any]) -> None:
    """Gives each step what the uncached ones before it found."""
    for step in UNCACHED:
        outputs = spec["components"][step]["outputDefinitions"]
        outputs["parameters"] = {entrypoint.FINGERPRINT: {"parameterType": "STRING"}}
        name = f"{task_name(step)}_{entrypoint.FINGERPRINT}".replace("-", "_")
        source = {
            "taskOutputParameter": {
                "producerTask": step,
                "outputParameterKey": entrypoint.FINGERPRINT,
            }
        }
        for after in _with_those_after(spec, [step]) - {step}:
            _add_parameter(spec, after, name, "STRING", source)
            task = spec["root"]["dag"]["tasks"][after]
            task["dependentTasks"] = sorted({*task["dependentTasks"], step})


def _add_types(spec: dict[str, Any]) -> None:
    """Gives outputs the types by which KFP's UI knows a page and metrics.

    The entrypoint has TFX's own types by then, in its arguments.
    """
    for step, outputs in entrypoint.SHOWN.items():
        artifacts = spec["components"][step]["outputDefinitions"]["artifacts"]
        for name, title in outputs.items():
            kind = {"schemaTitle": title, "schemaVersion": "0.0.1"}
            artifacts[name]["artifactType"] = kind


def _with_those_after(spec: dict[str, Any], steps: Iterable[str]) -> set[str]:
    """Returns steps and all that read what they, or such steps, made.

    Not a step that only waits: Transform makes the same, whatever DataGate compared its
    data with.
    """
    found = set(steps)
    tasks = spec["root"]["dag"]["tasks"].items()
    while more := {
        step for step, task in tasks if step not in found and found & _producers(task)
    }:
        found |= more
    return found


def _producers(task: dict[str, Any]) -> set[str]:
    artifacts = task["inputs"].get("artifacts", {}).values()
    return {artifact["taskOutputArtifact"]["producerTask"] for artifact in artifacts}


def _add_parameter(
    spec: dict[str, Any], step: str, name: str, kind: str, source: dict[str, Any]
) -> None:
    inputs = spec["components"][step].setdefault("inputDefinitions", {})
    inputs.setdefault("parameters", {})[name] = {"parameterType": kind}
    task = spec["root"]["dag"]["tasks"][step]
    task["inputs"].setdefault("parameters", {})[name] = copy.deepcopy(source)


def _with_another_value(config: PipelineConfig, setting: str) -> PipelineConfig:
    section, field = setting.split(".")
    fields = getattr(config, section)
    value = getattr(fields, field)
    # Twice as much: a batch stays a multiple of the replicas.
    fields = dataclasses.replace(fields, **{field: value * 2 or 1})
    return dataclasses.replace(config, **{section: fields})


def _rename(spec: dict[str, Any]) -> None:
    """Names tasks, components and executors as KFP's own compiler does.

    Kubernetes takes neither capitals nor underscores; kfp.local cuts `comp-` off.
    """
    components, executors = {}, {}
    for step, component in spec["components"].items():
        label = component["executorLabel"]
        component["executorLabel"] = f"exec-{task_name(step)}"
        components[f"comp-{task_name(step)}"] = component
        executors[component["executorLabel"]] = _executors(spec)[label]
    tasks = {}
    for step, task in spec["root"]["dag"]["tasks"].items():
        task["taskInfo"]["name"] = task_name(step)  # by this, KFP looks tasks up
        task["componentRef"]["name"] = f"comp-{task_name(step)}"
        task["dependentTasks"] = sorted(map(task_name, task.get("dependentTasks", ())))
        for kind in ("artifacts", "parameters"):
            for value in task["inputs"].get(kind, {}).values():
                for key in value.keys() & {"taskOutputArtifact", "taskOutputParameter"}:
                    value[key]["producerTask"] = task_name(value[key]["producerTask"])
        tasks[task_name(step)] = task
    spec["components"] = components
    spec["deploymentSpec"]["executors"] = executors
    spec["root"]["dag"]["tasks"] = tasks


def _platform(config: PipelineConfig, steps: list[str]) -> list[dict[str, Any]]:
    """Returns the document for Kubernetes, as kfp-kubernetes writes it, if any."""
    executors = {}
    outside = (*_OUTSIDE, *(["Trainer"] if config.kubeflow.checkpoints else []))
    for step in steps:
        fields: dict[str, Any] = {}
        if _step(config, step).node_selector:
            fields["nodeSelector"] = {"labels": _step(config, step).node_selector}
        if step in outside:
            # By the older fields for the names, which every version of KFP reads.
            fields["pvcMount"] = [
                {"constant": claim, "mountPath": folder}
                for folder, claim in config.kubeflow.volumes.items()
            ]
            fields["secretAsEnv"] = [
                {
                    "secretName": source.split("/")[0],
                    "keyToEnv": [
                        {"envVar": variable, "secretKey": source.split("/")[1]}
                    ],
                }
                for variable, source in config.kubeflow.secrets.items()
            ]
        fields = {name: value for name, value in fields.items() if value}
        if fields:
            executors[f"exec-{task_name(step)}"] = fields
    if not executors:
        return []
    deployment = {"deploymentSpec": {"executors": executors}}
    return [{"platforms": {"kubernetes": deployment}}]


def _executors(spec: dict[str, Any]) -> dict[str, Any]:
    return spec["deploymentSpec"]["executors"]


def _args(spec: dict[str, Any], step: str) -> list[str]:
    label = spec["components"][step]["executorLabel"]
    return _executors(spec)[label]["container"]["args"]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)

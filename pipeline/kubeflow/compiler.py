"""The compiler of the graph to a package for Kubeflow Pipelines v2."""

import copy
import hashlib
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import yaml
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from components.datasets import spans
from model.files import locations
from pipeline import graph
from pipeline.config.loading import ConfigError, PipelineConfig, decisive
from pipeline.kubeflow import contract, kubernetes
from pipeline.kubeflow.contract import read_run_parameters
from pipeline.kubeflow.kubernetes import make_task_name

_SCHEMA_FILE = f"{contract.PACKAGE}pipeline/schema.pbtxt"

# URIs for messages, by setting.
_EXAMPLES = {
    "push.destination": "s3://bucket/serving",
    "data.source": f"s3://bucket/digits/span-{spans.PLACEHOLDER}",
}

_PARAMETER_TYPES = {int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", str: "STRING"}

_Spec = dict[str, Any]  # a PipelineSpec in JSON, as TFX's runner returns it


def compile_pipeline(config: PipelineConfig, output: str, *, image: str) -> None:
    """Compiles the graph to a YAML file for KFP.

    The first document is a PipelineSpec 2.1.0. A second document, if the settings need
    one, has node selectors, volumes and secrets for Kubernetes. The same arguments give
    the same bytes.

    Args:
      config: the settings; their values of contract.RUN_PARAMETERS become the defaults
        of the run parameters.
      output: the path of the file to write, *.yaml or *.yml.
      image: the container image of every step.

    Raises:
      ConfigError: an argument or a setting is missing or wrong, or the file can't be
        written.
    """
    if pathlib.Path(output).suffix not in (".yaml", ".yml"):
        raise ConfigError(f"the output must be a .yaml file, got {output!r}")
    if not image:
        raise ConfigError(
            "the image must have a name such as registry/vae-pipeline:1.0, got ''"
        )
    spec = _compile_with_tfx(config, image)
    steps = list(spec["components"])
    for step in steps:
        _add_arguments(spec, step, config=config)
    for step in contract.FINGERPRINTS:
        _disable_cache(spec, step)
    _add_run_parameters(spec, config)
    _add_fingerprints(spec)
    _add_run_id(spec)
    _add_shown_types(spec)
    _rename_for_kubernetes(spec)
    documents = [spec, *kubernetes.make_platform_documents(config, steps)]
    try:
        pathlib.Path(output).write_text(
            yaml.safe_dump_all(documents, sort_keys=True), encoding="utf-8"
        )
    except OSError as error:
        raise ConfigError(f"can't write {output}: {error.strerror}") from error


def _compile_with_tfx(config: PipelineConfig, image: str) -> _Spec:
    """Returns the PipelineSpec that TFX compiles, with each container's resources."""
    pipeline = graph.create_pipeline(
        config,
        graph.Paths(
            pipeline_root=config.kubeflow.pipeline_root,
            data_dir=config.kubeflow.data_dir,
            schema_file=_SCHEMA_FILE,
            destination=_find_destination(config),
            checkpoints=config.kubeflow.checkpoints,
            source=config.data.source,
        ),
        beam_args=graph.BEAM_ARGS,
    )
    steps = [component.id for component in pipeline.components]
    unknown = set(config.kubeflow.steps) - {"default", *steps}
    if unknown:
        raise ConfigError(
            f"kubeflow.steps must name steps ({', '.join(steps)}) or default, "
            f"got {', '.join(sorted(unknown))}"
        )
    for component in pipeline.components:
        component.with_platform_config(
            kubernetes.make_container_resources(config.kubeflow, component.id)
        )
    runner_config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
        default_image=image,
        default_commands=list(contract.COMMAND),
        use_pipeline_spec_2_1=True,  # open-source KFP accepts only this version
    )
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(runner_config)
    spec = runner.run(pipeline, write_out=False)["pipelineSpec"]
    if config.kubeflow.pipeline_root:
        spec["defaultPipelineRoot"] = config.kubeflow.pipeline_root
    return spec


def _find_destination(config: PipelineConfig) -> str:
    """Returns the folder or URI of the versions.

    Raises:
      ConfigError: the destination is not set, or it or the source is a local path that
        begins with ~, which a container can't expand, or that is in no volume.
    """
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
                f"{setting} must not begin with ~ on Kubeflow, because containers do "
                f"not have your home folder, got {value!r}: write a URI, or the "
                "absolute path of a folder in one of kubeflow.volumes"
            )
        location = locations.parse(value, what=setting)
        is_local = not location.scheme and value not in spans.NAMES
        if is_local and not config.kubeflow.is_in_volume(location.path):
            folders = ", ".join(config.kubeflow.volumes) or "none is set"
            raise ConfigError(
                f"{setting} must be in one of kubeflow.volumes ({folders}) or in an "
                f"object store, got {value!r}: a folder of a container is lost with "
                "its pod; set kubeflow.volumes={FOLDER: CLAIM}, or "
                f"{setting}={_EXAMPLES[setting]}"
            )
    _check_keys(config)
    return config.push.resolve_versions_folder("")


def _check_keys(config: PipelineConfig) -> None:
    """Checks that containers can read the keys that push.sign and push.verify name.

    Raises:
      ConfigError: a key is neither a secret's variable nor a file in a volume, or the
        private key is missing.
    """
    push = config.push
    if push.verify and not push.sign:
        raise ConfigError(
            "push.sign must name the private key because push.verify is set, got '': "
            "a version without a signature is never served"
        )
    for setting, value in (("push.sign", push.sign), ("push.verify", push.verify)):
        if not value:
            continue
        is_known = (
            value.removeprefix("env:") in config.kubeflow.secrets
            if value.startswith("env:")
            else config.kubeflow.is_in_volume(value.removeprefix("file:"))
        )
        if not is_known:
            raise ConfigError(
                f"{setting} must be env:NAME with a NAME of kubeflow.secrets, or "
                f"file:PATH in one of kubeflow.volumes, got {value!r}: containers have "
                "no other files and variables of yours"
            )


def _add_arguments(spec: _Spec, step: str, *, config: PipelineConfig) -> None:
    """Adds the entrypoint's arguments to a step's container.

    KFP's cache key has only the names of a step's inputs, and on some backends the
    names are the same in every run (kubeflow/pipelines#12751). So everything that
    determines the inputs' content is made a part of the key: the settings by the
    argument `--key`, the upstream steps' run parameters and fingerprints as parameters.
    """
    has_run_parameters = any(
        step in parameter.properties for parameter in contract.RUN_PARAMETERS
    )
    arguments = contract.StepArguments(
        step=step,
        outputs=_to_json(spec["components"][step].get("outputDefinitions", {})),
        key=hashlib.sha256(_to_json(decisive(config)).encode()).hexdigest(),
        config=_to_json(_select_settings(config)) if has_run_parameters else None,
    )
    label = spec["components"][step]["executorLabel"]
    container = spec["deploymentSpec"]["executors"][label]["container"]
    container["args"].extend(arguments.to_args())


def _select_settings(config: PipelineConfig) -> dict[str, dict[str, Any]]:
    """Returns the settings from which the entrypoint makes a step's properties.

    The result has the settings' sections by name.
    """
    if not config.kubeflow.checkpoints:
        return decisive(config)  # Kubernetes alone uses the section `kubeflow`
    kubeflow = {
        "checkpoints": config.kubeflow.checkpoints,
        "volumes": config.kubeflow.volumes,
    }
    return {**decisive(config), "kubeflow": kubeflow}


def _disable_cache(spec: _Spec, step: str) -> None:
    spec["root"]["dag"]["tasks"][step]["cachingOptions"] = {}


def _add_run_parameters(spec: _Spec, config: PipelineConfig) -> None:
    """Adds the run parameters to the pipeline and to the steps that they affect."""
    definitions = {}
    values = read_run_parameters(config)
    for parameter in contract.RUN_PARAMETERS:
        value = values[parameter.name]
        kind = _PARAMETER_TYPES[type(value)]
        definitions[parameter.name] = {
            "parameterType": kind,
            "defaultValue": value,
            "isOptional": True,
            "description": f"the setting {parameter.setting}",
        }
        source = {"componentInputParameter": parameter.name}
        for step in _find_with_downstream_steps(spec, parameter.properties):
            _add_parameter(spec, step, name=parameter.name, kind=kind, source=source)
    spec["root"]["inputDefinitions"] = {"parameters": definitions}


def _add_fingerprints(spec: _Spec) -> None:
    """Adds fingerprints to their steps' outputs and to the downstream steps' inputs."""
    for step, fingerprint in contract.FINGERPRINTS.items():
        outputs = spec["components"][step]["outputDefinitions"]
        outputs["parameters"] = {contract.FINGERPRINT: {"parameterType": "STRING"}}
        source = {
            "taskOutputParameter": {
                "producerTask": step,
                "outputParameterKey": contract.FINGERPRINT,
            }
        }
        for downstream in _find_with_downstream_steps(spec, [step]) - {step}:
            _add_parameter(
                spec,
                downstream,
                name=fingerprint.parameter,
                kind="STRING",
                source=source,
            )
            task = spec["root"]["dag"]["tasks"][downstream]
            task["dependentTasks"] = sorted({*task["dependentTasks"], step})


def _add_run_id(spec: _Spec) -> None:
    source = {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}
    for step in contract.RUN_ID_STEPS:
        _add_parameter(spec, step, name=contract.RUN_ID, kind="STRING", source=source)


def _add_shown_types(spec: _Spec) -> None:
    """Sets the types of the outputs that KFP's UI shows, a page and metrics.

    This must come after `_add_arguments`, which gives TFX's types to the entrypoint.
    """
    for step, outputs in contract.SHOWN_OUTPUTS.items():
        artifacts = spec["components"][step]["outputDefinitions"]["artifacts"]
        for name, shown_as in outputs.items():
            kind = {"schemaTitle": shown_as.value, "schemaVersion": "0.0.1"}
            artifacts[name]["artifactType"] = kind


def _find_with_downstream_steps(spec: _Spec, steps: Iterable[str]) -> set[str]:
    """Returns steps and all steps that read their outputs, directly or indirectly.

    A step that only waits for another one is not in the result. For example, Transform
    waits for DataGate, but DataGate's result does not change Transform's outputs.
    """
    found = set(steps)
    tasks = spec["root"]["dag"]["tasks"].items()
    while more := {
        step
        for step, task in tasks
        if step not in found and found & _find_producers(task)
    }:
        found |= more
    return found


def _find_producers(task: dict[str, Any]) -> set[str]:
    artifacts = task["inputs"].get("artifacts", {}).values()
    return {artifact["taskOutputArtifact"]["producerTask"] for artifact in artifacts}


def _add_parameter(
    spec: _Spec, step: str, *, name: str, kind: str, source: dict[str, Any]
) -> None:
    inputs = spec["components"][step].setdefault("inputDefinitions", {})
    inputs.setdefault("parameters", {})[name] = {"parameterType": kind}
    task = spec["root"]["dag"]["tasks"][step]
    # A copy, because YAML writes an object that occurs twice as an alias.
    task["inputs"].setdefault("parameters", {})[name] = copy.deepcopy(source)


def _rename_for_kubernetes(spec: _Spec) -> None:
    """Renames tasks, components and executors as KFP's own compiler names them.

    Kubernetes allows neither capitals nor underscores in names, and kfp.local expects
    the prefix `comp-`.
    """
    components, executors = {}, {}
    for step, component in spec["components"].items():
        label = component["executorLabel"]
        component["executorLabel"] = f"exec-{make_task_name(step)}"
        components[f"comp-{make_task_name(step)}"] = component
        executors[component["executorLabel"]] = spec["deploymentSpec"]["executors"][
            label
        ]
    tasks = {}
    for step, task in spec["root"]["dag"]["tasks"].items():
        task["taskInfo"]["name"] = make_task_name(step)  # KFP finds tasks by this name
        task["componentRef"]["name"] = f"comp-{make_task_name(step)}"
        task["dependentTasks"] = sorted(
            map(make_task_name, task.get("dependentTasks", ()))
        )
        for kind in ("artifacts", "parameters"):
            for value in task["inputs"].get(kind, {}).values():
                for key in value.keys() & {"taskOutputArtifact", "taskOutputParameter"}:
                    value[key]["producerTask"] = make_task_name(
                        value[key]["producerTask"]
                    )
        tasks[make_task_name(step)] = task
    spec["components"] = components
    spec["deploymentSpec"]["executors"] = executors
    spec["root"]["dag"]["tasks"] = tasks


def _to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)

"""The Kubernetes settings of steps: resources, volumes, secrets, node selectors."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline.config.loading import PipelineConfig
from pipeline.config.sections import KubeflowConfig, StepConfig

_Container = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec

# The steps that get the volumes and the secrets. Other steps use only artifacts.
_STEPS_WITH_ACCESS = ("Ingest", "ServedModel", "Pusher")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecretVariable:
    """An environment variable whose value is a key of a Kubernetes secret."""

    variable: str
    secret: str
    key: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PodSettings:
    """The node selector, the volumes and the secrets of one step's pod."""

    node_selector: dict[str, str]  # label -> value
    volumes: Mapping[str, str]  # folder -> claim
    secrets: tuple[SecretVariable, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields of kfp-kubernetes' KubernetesExecutorConfig."""
        fields: dict[str, Any] = {}
        if self.node_selector:
            fields["nodeSelector"] = {"labels": self.node_selector}
        # These fields for names are deprecated, but every version of KFP reads them.
        if self.volumes:
            fields["pvcMount"] = [
                {"constant": claim, "mountPath": folder}
                for folder, claim in self.volumes.items()
            ]
        if self.secrets:
            fields["secretAsEnv"] = [
                {
                    "secretName": secret.secret,
                    "keyToEnv": [{"envVar": secret.variable, "secretKey": secret.key}],
                }
                for secret in self.secrets
            ]
        return fields


def make_task_name(step: str) -> str:
    """Returns a step's name on Kubernetes, such as statistics-gen for StatisticsGen."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", step).lower()


def make_container_resources(
    config: KubeflowConfig, step: str
) -> pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec:
    """Returns the processors, memory and GPUs of a step's container.

    They are limits; Kubernetes uses them as requests too. KFP has newer fields, of the
    type string, which its older versions refuse. Every version reads the fields here.
    """
    settings = _find_step_settings(config, step)
    resources = _Container.ResourceSpec(
        cpu_limit=settings.cpu, memory_limit=settings.memory
    )
    if settings.gpus:
        resources.accelerator.type = settings.gpu_type
        resources.accelerator.count = settings.gpus
    return resources


def make_pod_settings(config: KubeflowConfig, step: str) -> PodSettings:
    """Returns the node selector, the volumes and the secrets of a step's pod."""
    node_selector = _find_step_settings(config, step).node_selector
    # The Trainer needs them if its checkpoints are outside its pod.
    has_access = step in _STEPS_WITH_ACCESS or (
        step == "Trainer" and config.checkpoints
    )
    if not has_access:
        return PodSettings(node_selector=node_selector, volumes={}, secrets=())
    secrets = []
    for variable, source in config.secrets.items():
        secret, _, key = source.partition("/")
        secrets.append(SecretVariable(variable=variable, secret=secret, key=key))
    return PodSettings(
        node_selector=node_selector, volumes=config.volumes, secrets=tuple(secrets)
    )


def make_platform_documents(
    config: PipelineConfig, steps: Iterable[str]
) -> list[dict[str, Any]]:
    """Returns the YAML document with each step's settings of its pod, in a list.

    The list is empty if no step has such settings.
    """
    executors = {}
    for step in steps:
        if fields := make_pod_settings(config.kubeflow, step).to_json():
            executors[f"exec-{make_task_name(step)}"] = fields
    if not executors:
        return []
    deployment = {"deploymentSpec": {"executors": executors}}
    return [{"platforms": {"kubernetes": deployment}}]


def _find_step_settings(config: KubeflowConfig, step: str) -> StepConfig:
    return config.steps.get(step) or config.steps.get("default") or StepConfig()

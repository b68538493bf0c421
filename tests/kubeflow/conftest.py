"""The container engine and the image, for the tests that run steps in containers."""

import pathlib
import warnings

import filelock
import pytest

from tests.kubeflow.engine import Engine, Unavailable

# Of the engine: what is built stays there. A socket's path must be short.
STATE = pathlib.Path(__file__).parents[2] / ".tools" / "podman"


@pytest.fixture(scope="session")
def engine():
    """The container engine, or None where there is none to be had."""
    try:
        engine = Engine(STATE)
    except Unavailable as error:
        warnings.warn(f"NO CONTAINERS: {error}: processes instead", stacklevel=1)
        return None
    return engine


@pytest.fixture(scope="session")
def image(engine):
    """The image's name; the first process builds it, another one waits for it."""
    if engine is None:
        return "none"
    with filelock.FileLock(STATE / "build.lock"):
        return engine.build()

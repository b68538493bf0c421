"""Fixtures for all tests."""

import gc
import os
import pathlib
import shutil
import tempfile
from multiprocessing import util

import numpy as np
import pytest

from model.training import devices, progress
from tests.support.places import place  # noqa: F401, a fixture
from tests.support.s3 import (  # noqa: F401, fixtures
    _s3_server,
    s3,
    s3_elsewhere,
    s3_environment,
)

TESTS = pathlib.Path(__file__).parent

# They come first: a worker that began one of them last would leave the other one idle.
LONG = ("e2e/", "model/training/test_crashes.py", "model/test_export.py")


def pytest_configure(config):
    # All this before anything starts TensorFlow: some tests need replicas.
    devices.configure_logical_cpus(4)
    # The tests run side by side already, and their models are tiny: more threads would
    # spend their time waiting for each other.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    if not hasattr(config, "workerinput"):  # workers have the environment of this
        # What libraries leave in the folder for temporary files goes with it.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        folder = tempfile.mkdtemp()
        # After multiprocessing has removed its own folders, with a priority of -100.
        util.Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=-200)
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = None  # it is looked up anew


def pytest_collection_modifyitems(items):
    def order(item):
        path = item.path.relative_to(TESTS).as_posix()
        return [not path.startswith(long) for long in LONG]

    items.sort(key=order)


@pytest.fixture(scope="module", autouse=True)
def only_new_objects_are_searched_for_garbage():
    """Keeps the collector from the libraries and from what earlier tests left.

    A search takes seconds when it goes through all that.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def nothing_is_slow(monkeypatch):
    """Keeps a busy machine from adding lines that name slow work to exact output."""
    monkeypatch.setattr(progress, "_FIRST_LOG_AFTER", 3600.0)


@pytest.fixture
def images():
    """Returns grey images, float32 [12, 28, 28, 1]: multiples of 1/255, many are 0."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, [12, 28, 28, 1]) * rng.integers(0, 2, [12, 28, 28, 1])
    return (pixels / 255).astype(np.float32)


@pytest.fixture
def binary():
    """Returns binary images, float32 [12, 28, 28, 1]."""
    rng = np.random.default_rng(1)
    return rng.integers(0, 2, [12, 28, 28, 1]).astype(np.float32)

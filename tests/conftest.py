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

# These run first: if a worker began one of them last, the other worker would be idle.
LONG = ("e2e/", "model/training/test_crashes.py", "model/test_export.py")


def pytest_configure(config):
    # This must come before anything starts TensorFlow: some tests need replicas.
    devices.configure_logical_cpus(4)
    # The tests already run in parallel, and their models are tiny: with more threads,
    # the threads would mostly wait for each other.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    if not hasattr(config, "workerinput"):  # workers inherit these variables
        # Libraries leave files in the folder for temporary files. This removes them.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        folder = tempfile.mkdtemp()
        # After multiprocessing has removed its own folders, with a priority of -100.
        util.Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=-200)
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = None  # tempfile must read TMPDIR again


def pytest_collection_modifyitems(items):
    def order(item):
        path = item.path.relative_to(TESTS).as_posix()
        return [not path.startswith(long) for long in LONG]

    items.sort(key=order)


@pytest.fixture(scope="module", autouse=True)
def only_new_objects_are_searched_for_garbage():
    """Excludes all objects that exist before a module from garbage collection.

    A collection that searches the objects of the libraries takes seconds.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def nothing_is_slow(monkeypatch):
    """Suppresses the lines about slow work, for tests that compare exact output."""
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

"""Fixtures for all tests."""

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


def pytest_configure(config):
    # Before anything starts TensorFlow: some tests need several replicas.
    devices.configure_logical_cpus(4)


@pytest.fixture
def nothing_is_slow(monkeypatch):
    """Prevents lines about slow work, which a busy machine adds to exact output."""
    monkeypatch.setattr(progress, "_SLOW", 3600.0)


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

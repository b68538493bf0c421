"""The command line: list of commands, help, interrupts and early errors."""

import importlib
import os
import pathlib
import pkgutil
import re
import signal
import subprocess
import sys
import time

import pytest

from pipeline import cli
from pipeline.cli import main
from pipeline.runs import run_record
from tests.support import disks


def names_of_commands():
    """Returns the names of the modules that add a command."""
    modules = [module.name for module in pkgutil.iter_modules(cli.__path__)]
    return [
        name
        for name in modules
        if hasattr(importlib.import_module(f"pipeline.cli.{name}"), "add_command")
    ]


def test_each_command_is_listed_and_has_a_module_of_its_name(capsys):
    with pytest.raises(SystemExit):
        main.main(["--help"])
    listed = re.findall(r"^    ([a-z]+)\b", capsys.readouterr().out, re.MULTILINE)
    assert sorted(listed) == sorted(names_of_commands())


@pytest.mark.parametrize("args", [[], *([name] for name in names_of_commands())])
def test_help_teaches_without_importing_tensorflow(args):
    check = (
        "import sys; from pipeline.cli import main\n"
        "try: main.main(sys.argv[1:])\n"
        "finally: assert not {'tensorflow', 'tfx', 'kfp'} & set(sys.modules)"
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
    # CPython ends itself by SIGINT when an interrupt comes within exec(); a shell shows
    # 130 too.
    assert process.returncode in (130, -signal.SIGINT)
    assert "interrupted; the same command goes on where it stopped" in stderr
    ((kept,), _) = run_record.read_all(tmp_path)
    assert (kept.status, kept.step) == ("interrupted", "Imports")
    assert list(temporary.iterdir()) == []


def test_a_disk_that_is_full_before_the_run_begins(tmp_path, capsys):
    with disks.small(tmp_path / "disk", megabytes=1) as disk:
        disks.fill(disk)
        code = main.main(["run", "--preset", "smoke", "--root", str(disk / "runs")])
    assert code == 1
    error = capsys.readouterr().err
    assert error.startswith("vae-pipeline: [Errno 28] No space left on device")
    assert error.endswith("; free some space, and the same command goes on\n")

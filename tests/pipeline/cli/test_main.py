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

import click
import pytest

from pipeline import cli
from pipeline.cli import command, main
from pipeline.runs import run_record
from tests.support import disks


def find_commands():
    """Returns the command of each module that has one, by the module's name."""
    found = {}
    for module in pkgutil.iter_modules(cli.__path__):
        content = vars(importlib.import_module(f"pipeline.cli.{module.name}"))
        for value in content.values():
            if isinstance(value, command.Command):
                found[module.name] = value
    return found


COMMANDS = find_commands()


def test_each_command_is_listed_and_has_a_module_of_its_name(capsys):
    assert main.main(["--help"]) == 0
    _, _, listed = capsys.readouterr().out.partition("\nCommands:\n")
    names = re.findall(r"^  ([a-z]+)  ", listed, re.MULTILINE)
    assert sorted(names) == sorted(COMMANDS)


def test_help_imports_no_command():
    check = (
        "import sys; from pipeline.cli import main; main.main(['--help'])\n"
        "cli = {name for name in sys.modules if name.startswith('pipeline.cli.')}\n"
        "expected = {'main', 'command', 'option_types'}\n"
        "assert cli == {f'pipeline.cli.{name}' for name in expected}, cli\n"
        "assert not {'pydantic', 'yaml'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_has_the_default_of_every_option_and_what_it_takes(name):
    context = click.Context(COMMANDS[name], show_default=True)
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option) and not option.is_flag:
            words, text = option.get_help_record(context)
            assert "[default: " in text or "[required]" in text, words
            # Not the name of a type alone: the unit, or what the value is.
            assert not re.search("INTEGER|NUMBER|FLOAT|TEXT$", words) or words == (
                "--reason TEXT"
            )


MISTAKES = [
    (["rnu"], "unknown command rnu: did you mean run?"),
    (["zzz"], f"unknown command zzz: must be one of {', '.join(main._COMMANDS)}"),
    ([], f"a command must be given: one of {', '.join(main._COMMANDS)}"),
    (
        ["run", "--prest", "demo"],
        "unknown option --prest: did you mean --preset?; see vae-pipeline run --help",
    ),
    (["--zzz"], "unknown option --zzz; see vae-pipeline --help"),
    (["run", "--zzz=1"], "unknown option --zzz; see vae-pipeline run --help"),
    (
        ["run", "--preset", "smok"],
        "--preset must be one of five_minutes, ten_minutes, one_hour, demo, blog, "
        "smoke, got 'smok': did you mean smoke?",
    ),
    (
        ["run", "--set", "train.epoch=3"],
        "unknown setting train.epoch (3): did you mean train.epochs?",
    ),
    (
        ["run", "--set"],
        "--set must have a value: SECTION.FIELD=VALUE; see vae-pipeline run --help",
    ),
    (
        ["history", "--json=3"],
        "--json must have no value; see vae-pipeline history --help",
    ),
    (["--version=3"], "--version must have no value; see vae-pipeline --help"),
    (["run", "--span-window", "two"], "--span-window must be an integer, got 'two'"),
    (["prune"], "--keep must be given; see vae-pipeline prune --help"),
    (["score"], "IMAGE must be given; see vae-pipeline score --help"),
    (
        ["data", "mnist"],
        "got unexpected extra argument (mnist); see vae-pipeline data --help",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line_with_what_was_expected(arguments, message, capsys):
    assert main.main(arguments) == 2
    assert capsys.readouterr() == ("", f"vae-pipeline: {message}\n")


def test_a_mistyped_key_of_a_file_has_the_nearest(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("gate: {elbo_flor: -100}\n")
    assert main.main(["run", "--config", str(tmp_path / "mine.yaml")]) == 2
    assert capsys.readouterr().err == (
        "vae-pipeline: unknown setting gate.elbo_flor (-100): did you mean "
        "gate.elbo_floor?\n"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["r"], ["run", "report", "rollback", "reconstruct"]),
        (["run", "--pre"], ["--preset"]),
        (["run", "--preset", "s"], ["smoke"]),
        (["schedule", "--print", ""], ["systemd", "crontab"]),
    ],
)
def test_bash_completes_an_incomplete_word(words, expected, monkeypatch, capsys):
    """The variables are those that the script of how-to/complete-commands.md sets."""
    monkeypatch.setenv("_VAE_PIPELINE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["vae-pipeline", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert main.main([]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[2] for line in printed] == expected


@pytest.mark.parametrize("args", [[], *([name] for name in COMMANDS)])
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
    assert "Exit codes: 0 success; 2 bad input; 3 the gate refused the model" in (
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
    assert "interrupted; run the same command to continue where it stopped" in stderr
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
    assert error.endswith("; free some space, then run the same command again\n")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("file/x", "Not a directory"), ("loop", "Too many levels of symbolic links")],
)
def test_a_path_where_no_file_can_be_is_bad_input(tmp_path, capsys, name, reason):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    path = tmp_path / name
    assert main.main(["report", "--root", str(path)]) == 2
    message = capsys.readouterr().err
    assert message == (
        f"vae-pipeline: {path}/metadata.sqlite can't be used: {reason}; correct the "
        "path\n"
    )

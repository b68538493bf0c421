"""The lines for crontab and the units for systemd, and the commands they start."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from pipeline.config.loading import ConfigError
from pipeline.scheduling import service_files
from pipeline.scheduling.cron import parse_cron

# Words with characters that are special to a shell, cron or systemd.
WORDS = [
    *("two words", "50%", "%h", r"\%", r"\\%%", "it's", '"', "'\\%", "\\", "\\n", ""),
    *(
        "$HOME",
        "${HOME}",
        "$$",
        "a$b",
        "`id`",
        ";",
        "&",
        ">x",
        "*",
        "~",
        "#",
        "é",
        "a\tb",
    ),
]

# Writes its arguments and working folder to the file that the first argument names.
WRITE_ARGUMENTS = (
    "import json, os, pathlib, sys; "
    "pathlib.Path(sys.argv[1]).write_text(json.dumps([os.getcwd(), *sys.argv[2:]]))"
)


def as_cron_runs(line):
    """Runs a line of a crontab as cron does, and returns the exit code."""
    command = line.split(maxsplit=5)[5].rstrip("\n")
    # As in cron's do_command.c: a backslash before % is removed, and a bare % ends the
    # command.
    shell, escaped = "", False
    for character in command:
        if escaped and character == "%":
            shell = shell[:-1]
        elif character == "%":
            break
        escaped = character == "\\" and not escaped
        shell += character
    return subprocess.run(["/bin/sh", "-c", shell], check=False).returncode


def test_the_line_in_a_crontab_runs_the_command_as_it_is(tmp_path):
    folder = tmp_path / r"it's 100\% of $HOME"
    folder.mkdir()
    command = [sys.executable, "-c", WRITE_ARGUMENTS, str(tmp_path / "written"), *WORDS]
    line = service_files.make_crontab_lines(
        parse_cron("0 3  * * mon-fri", None),
        command=command,
        folder=folder,
        logs=folder / "my logs",
    )
    assert line.startswith("0 3 * * mon-fri cd ")
    assert line.count("\n") == 1
    assert as_cron_runs(line) == 0
    assert json.loads((tmp_path / "written").read_text()) == [str(folder), *WORDS]
    assert (folder / "my logs/cron.log").read_text() == ""


def test_the_line_in_a_crontab_keeps_the_output_and_the_exit_code(tmp_path):
    command = [sys.executable, "-c", "print('out'); raise SystemExit('err')"]
    line = service_files.make_crontab_lines(
        parse_cron("0 3 * * *", None),
        command=command,
        folder=tmp_path,
        logs=tmp_path / "runs/logs",
    )
    assert [as_cron_runs(line), as_cron_runs(line)] == [1, 1]
    log = (tmp_path / "runs/logs/cron.log").read_text()
    assert sorted(log.split()) == ["err", "err", "out", "out"]


def test_a_crontab_names_the_cron_that_supports_the_time_zone(tmp_path):
    *comments, timezone, line = service_files.make_crontab_lines(
        parse_cron("0 3 * * *", "Europe/Berlin"),
        command=["true"],
        folder=tmp_path,
        logs=pathlib.Path("/logs"),
    ).splitlines()
    assert all(comment.startswith("# ") for comment in comments)
    assert "cronie" in comments[0]
    assert timezone == "CRON_TZ=Europe/Berlin"
    assert line == (
        f"0 3 * * * cd {tmp_path} && mkdir -p /logs && exec true >>/logs/cron.log 2>&1"
    )


def test_the_units_of_systemd(tmp_path):
    folder = pathlib.Path("/srv/100% of it")
    command = ["/opt/my $x/python", "-m", "pipeline", "run", "--set=a.b=c", *WORDS]
    text = service_files.make_systemd_units(
        parse_cron("0 3 13 * fri", "Europe/Berlin"), command=command, folder=folder
    )
    lines = text.splitlines()
    assert "WorkingDirectory=/srv/100%% of it" in lines
    # Expected by systemd.service(5); systemd 252 passed these words to a user's
    # program.
    assert (
        r'ExecStart="/opt/my $x/python" -m pipeline run --set=a.b=c '
        r'"two words" "50%%" "%%h" "\\%%" "\\\\%%%%" "it' + "'" + r's" "\"" '
        r'"' + "'" + r'\\%%" "\\" "\\n" "" "$$HOME" "$${HOME}" "$$$$" "a$$b" "`id`" '
        '";" "&" ">x" "*" "~" "#" "é" "a\tb"'
    ) in lines
    assert "SuccessExitStatus=3" in lines
    assert [line for line in lines if line.startswith("OnCalendar=")] == [
        "OnCalendar=*-*-13 03:00:00 Europe/Berlin",
        "OnCalendar=Fri *-*-* 03:00:00 Europe/Berlin",
    ]
    assert "Persistent=true" in lines
    assert "#   systemctl --user enable --now vae-pipeline.timer" in lines


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_systemd_takes_the_units(tmp_path):
    command = [sys.executable, "-m", "pipeline", "run", *WORDS]
    text = service_files.make_systemd_units(
        parse_cron("0 3 * * *", "Europe/Berlin"), command=command, folder=tmp_path
    )
    service, timer = text.split("\n# ~/.config/systemd/user/vae-pipeline.timer\n")
    files = [tmp_path / f"vae-pipeline.{kind}" for kind in ("service", "timer")]
    for file, unit in zip(files, (service, timer)):
        file.write_text(unit)
    result = subprocess.run(
        ["systemd-analyze", "verify", *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )
    # systemd reports a line that it does not know, and continues.
    ours = [line for line in result.stderr.splitlines() if "vae-pipeline" in line]
    assert (result.returncode, ours) == (0, [])


def crontab_line(*arguments, **options):
    logs = pathlib.Path("/logs")
    return service_files.make_crontab_lines(*arguments, **options, logs=logs)


@pytest.mark.parametrize("text_of", [service_files.make_systemd_units, crontab_line])
def test_a_line_break_for_cron_or_systemd_is_named(text_of, tmp_path):
    schedule = parse_cron("0 3 * * *", None)
    with pytest.raises(ConfigError) as caught:
        text_of(schedule, command=["run", "a\nb"], folder=tmp_path)
    assert str(caught.value) == (
        "the command and the folders for cron or systemd must have no line breaks, "
        r"got 'a\nb': put such a setting in a file (--config)"
    )
    with pytest.raises(ConfigError, match="no line break"):
        text_of(schedule, command=["run"], folder=tmp_path / "a\nb")
